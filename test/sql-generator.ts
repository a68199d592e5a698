/** Random SQL statements from a seed. Most of them work; the rest must fail in the same way everywhere. */
import type { Random } from "../src/testing/random.ts";

interface Column {
  readonly name: string;
  readonly isGenerated: boolean;
}

interface Table {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly kind: "table" | "fts" | "rtree";
}

const TYPES = ["INTEGER", "INT", "REAL", "TEXT", "BLOB", "NUMERIC", "ANY", ""];
const COLLATIONS = ["", "", "", " COLLATE NOCASE", " COLLATE RTRIM"];
const WORDS = [
  "apple",
  "Apple ",
  "pear",
  "plum  ",
  "quince",
  "a",
  "",
  "0",
  "12",
  "1e3",
  "Ärger",
  "木",
  "nul",
];
const MAX_TABLES = 7;

export class SqlGenerator {
  private readonly random: Random;
  private tables: Table[] = [];
  private names = 0;
  private readonly views: string[] = [];
  private readonly indexes: string[] = [];
  private readonly triggers: string[] = [];
  private savepoints: string[] = [];

  constructor(random: Random) {
    this.random = random;
  }

  /** Statements to set the scene. */
  opening(): string[] {
    return [
      this.createTable(),
      this.createTable(),
      this.insert(),
      this.bulkInsert(),
      this.createIndex(),
    ];
  }

  next(): string {
    const kinds: readonly (readonly [number, () => string])[] = [
      [this.tables.length < MAX_TABLES ? 3 : 0, () => this.createTable()],
      [2, () => this.createVirtual()],
      [3, () => this.createIndex()],
      [1, () => this.createView()],
      [2, () => this.createTrigger()],
      [2, () => this.alter()],
      [1, () => this.drop()],
      [18, () => this.insert()],
      [4, () => this.bulkInsert()],
      [10, () => this.update()],
      [6, () => this.remove()],
      [16, () => this.select()],
      [14, () => this.transaction()],
      [4, () => this.pragma()],
      [1, () => this.random.pick(["VACUUM", "REINDEX", "ANALYZE", "PRAGMA optimize"])],
    ];
    let choice = this.random.integer(
      1,
      kinds.reduce((sum, [weight]) => sum + weight, 0),
    );
    return kinds.find(([weight]) => weight > 0 && (choice -= weight) <= 0)![1]();
  }

  /** Everything there is, for a full comparison. */
  dump(): string[] {
    return [
      "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY name, type",
      ...this.tables.map(({ name }) => `SELECT * FROM ${name}`),
      ...this.views.map((name) => `SELECT * FROM ${name}`),
      "PRAGMA integrity_check",
      "PRAGMA foreign_key_check",
      "PRAGMA page_count",
      "PRAGMA freelist_count",
    ];
  }

  private name(prefix: string): string {
    return `${prefix}${++this.names}`;
  }

  private chance(probability: number): boolean {
    return this.random.chance(probability);
  }

  private table(): Table {
    if (this.tables.length === 0 || this.chance(0.01))
      return { name: "missing", columns: [{ name: "a", isGenerated: false }], kind: "table" };
    return this.random.pick(this.tables);
  }

  private column(table: Table): string {
    if (this.chance(0.03)) return this.random.pick(["rowid", "nothing"]);
    return this.random.pick(table.columns).name;
  }

  /** Never the greatest integer: after a row of that number SQLite picks the next ones at random. */
  private literal(): string {
    const { random } = this;
    switch (random.integer(0, 11)) {
      case 0:
        return "NULL";
      case 1:
        return String(
          random.pick([0, -1, 9007199254740993n, 4611686018427387903n, "-9223372036854775808"]),
        );
      case 2:
        return random.pick(["1.5", "-0.0", "1e300", "9e999", "0.1", "1e-10"]);
      case 3:
        return `x'${Buffer.from(random.bytes(random.integer(0, 8))).toString("hex")}'`;
      case 4:
        return `hex(zeroblob(${random.integer(0, 2500)}))`;
      case 5:
        return `printf('%.*c', ${random.integer(0, 3000)}, '${random.pick(["x", "y", "é"])}')`;
      case 6:
      case 7:
        return `'${random.pick(WORDS)}'`;
      case 8:
        return `'${random.nextUint32().toString(36)} ${random.pick(WORDS)}'`;
      default:
        return String(random.integer(-20, 200));
    }
  }

  private expression(table: Table, depth = 0): string {
    const { random } = this;
    if (depth > 2 || this.chance(0.4))
      return this.chance(0.6) ? this.column(table) : this.literal();
    const left = this.expression(table, depth + 1);
    const right = this.expression(table, depth + 1);
    switch (random.integer(0, 11)) {
      case 0:
        return `(${left} || ${right})`;
      case 1:
        return `coalesce(${left}, ${right})`;
      case 2:
        return `CASE WHEN ${this.condition(table, depth + 1)} THEN ${left} ELSE ${right} END`;
      case 3:
        return `CAST(${left} AS ${random.pick(["NUMERIC", "TEXT", "REAL", "BLOB"])})`;
      case 4:
        return `length(${left})`;
      case 5:
        return `substr(${left}, ${random.integer(-3, 5)}, ${random.integer(0, 4)})`;
      case 6:
        return `json_array(${left}, quote(${right}))`;
      case 7:
        return `json_extract(json_object('a', quote(${left}), 'b', json('[1,2]')), '$.${random.pick(["a", "b", "b[1]", "c"])}')`;
      case 8:
        return `abs(${left})`;
      case 9:
        return `upper(${left})`;
      default:
        return `(${left} ${random.pick(["+", "-", "*", "/", "%", "&", "<<", "="])} ${right})`;
    }
  }

  private condition(table: Table, depth = 0): string {
    const { random } = this;
    const left = this.expression(table, depth + 1);
    switch (random.integer(0, 8)) {
      case 0:
        return `${left} IS ${this.chance(0.5) ? "NOT " : ""}NULL`;
      case 1:
        return `${left} LIKE '${random.pick(["%a%", "A_p%", "%1", "%"])}'`;
      case 2:
        return `${left} BETWEEN ${this.literal()} AND ${this.literal()}`;
      case 3:
        return `${left} IN (${this.literal()}, ${this.literal()}, ${this.literal()})`;
      case 4:
        return `typeof(${left}) = '${random.pick(["integer", "text", "real", "null", "blob"])}'`;
      case 5:
        return `${left} GLOB '${random.pick(["*a*", "[0-9]*"])}'`;
      default:
        return `${left} ${random.pick(["<", "<=", "=", "<>", ">", "IS"])} ${this.literal()}`;
    }
  }

  private createTable(): string {
    const { random } = this;
    const name = this.name("t");
    const columns: Column[] = [];
    const parts: string[] = [];
    const hasKey = this.chance(0.7);
    const isWithoutRowid = hasKey && this.chance(0.2);
    if (hasKey) {
      const type = isWithoutRowid
        ? random.pick(["TEXT", "INT", "BLOB"])
        : random.pick(["INTEGER", "INTEGER", "TEXT"]);
      const auto = type === "INTEGER" && this.chance(0.2) ? " AUTOINCREMENT" : "";
      parts.push(`id ${type} PRIMARY KEY${auto}`);
      columns.push({ name: "id", isGenerated: false });
    }
    for (const letter of ["a", "b", "c", "d"].slice(0, random.integer(1, 4))) {
      const isGenerated = letter !== "a" && this.chance(0.12);
      parts.push(isGenerated ? this.generatedColumn(letter, columns) : this.plainColumn(letter));
      columns.push({ name: letter, isGenerated });
    }
    const parent = this.tables.find((table) =>
      table.columns.some((column) => column.name === "id"),
    );
    if (parent !== undefined && this.chance(0.4)) {
      const action = random.pick(["CASCADE", "SET NULL", "RESTRICT", "NO ACTION", "SET DEFAULT"]);
      const deferred = this.chance(0.3) ? " DEFERRABLE INITIALLY DEFERRED" : "";
      parts.push(
        `parent REFERENCES ${parent.name}(id) ON DELETE ${action} ON UPDATE CASCADE${deferred}`,
      );
      columns.push({ name: "parent", isGenerated: false });
    }
    if (this.chance(0.15)) parts.push(`CHECK (a IS NOT ${this.literal()})`);
    if (this.chance(0.1)) parts.push("UNIQUE (a) ON CONFLICT REPLACE");
    this.tables.push({ name, columns, kind: "table" });
    return `CREATE TABLE ${name}(${parts.join(", ")})${isWithoutRowid ? " WITHOUT ROWID" : ""}`;
  }

  private plainColumn(name: string): string {
    const { random } = this;
    const unique = this.chance(0.1) ? " UNIQUE" : "";
    const notNull = this.chance(0.12) ? " NOT NULL" : "";
    const fallback = this.chance(0.2) ? ` DEFAULT (${this.literal()})` : "";
    return `${name} ${random.pick(TYPES)}${unique}${notNull}${fallback}${random.pick(COLLATIONS)}`;
  }

  private generatedColumn(name: string, columns: readonly Column[]): string {
    const source: Table = {
      name: "",
      columns: columns.filter(({ isGenerated }) => !isGenerated),
      kind: "table",
    };
    const kind = this.chance(0.5) ? "STORED" : "VIRTUAL";
    return `${name} GENERATED ALWAYS AS (${this.random.pick(source.columns).name} || '${this.random.pick(WORDS)}') ${kind}`;
  }

  private createVirtual(): string {
    if (this.tables.filter(({ kind }) => kind !== "table").length >= 3) return this.select();
    const plain = (names: string[]): Column[] =>
      names.map((name) => ({ name, isGenerated: false }));
    const name = this.name("v");
    if (this.chance(0.6)) {
      this.tables.push({ name, columns: plain(["a", "b"]), kind: "fts" });
      return `CREATE VIRTUAL TABLE ${name} USING fts5(a, b${this.chance(0.3) ? ", tokenize = 'porter'" : ""}${this.chance(0.3) ? ", prefix = '2'" : ""})`;
    }
    this.tables.push({ name, columns: plain(["id", "a", "b"]), kind: "rtree" });
    return `CREATE VIRTUAL TABLE ${name} USING rtree(id, a, b)`;
  }

  private createIndex(): string {
    const table = this.table();
    const name = this.name("i");
    this.indexes.push(name);
    const key = this.chance(0.25) ? `(${this.expression(table, 2)} || '')` : this.column(table);
    const second = this.chance(0.4) ? `, ${this.column(table)} DESC` : "";
    const where = this.chance(0.2) ? ` WHERE ${this.column(table)} IS NOT NULL` : "";
    return `CREATE ${this.chance(0.15) ? "UNIQUE " : ""}INDEX ${name} ON ${table.name}(${key}${second})${where}`;
  }

  private createView(): string {
    const table = this.table();
    const name = this.name("w");
    this.views.push(name);
    return `CREATE VIEW ${name} AS SELECT ${this.expression(table)} AS x, count(*) AS n FROM ${table.name} GROUP BY 1`;
  }

  private createTrigger(): string {
    const table = this.table();
    const target = this.table();
    const name = this.name("g");
    this.triggers.push(name);
    const event = this.random.pick(["INSERT", "UPDATE", "DELETE"]);
    const row = event === "DELETE" ? "OLD" : "NEW";
    const writable = target.columns.filter(({ isGenerated }) => !isGenerated);
    const column = this.random.pick(writable).name;
    const body = this.random.pick([
      `UPDATE ${target.name} SET ${column} = ${row}.${this.column(table)} WHERE ${column} = ${this.literal()}`,
      `INSERT OR IGNORE INTO ${target.name}(${column}) VALUES (${row}.${this.column(table)})`,
      `SELECT CASE WHEN ${row}.${this.column(table)} = ${this.literal()} THEN raise(ABORT, 'refused by ${name}') END`,
    ]);
    const when = this.random.pick(["BEFORE", "AFTER"]);
    return `CREATE TRIGGER ${name} ${when} ${event} ON ${table.name} BEGIN ${body}; END`;
  }

  private alter(): string {
    const table = this.table();
    if (table.kind !== "table") return this.select();
    switch (this.random.integer(0, 3)) {
      case 0: {
        const column = this.name("n");
        this.replace(table, { columns: [...table.columns, { name: column, isGenerated: false }] });
        return `ALTER TABLE ${table.name} ADD COLUMN ${column} ${this.random.pick(TYPES)} DEFAULT ${this.random.integer(0, 9)}`;
      }
      case 1: {
        const name = this.name("t");
        this.replace(table, { name });
        return `ALTER TABLE ${table.name} RENAME TO ${name}`;
      }
      case 2: {
        const old = this.random.pick(table.columns);
        const fresh = this.name("r");
        this.replace(table, {
          columns: table.columns.map((column) =>
            column === old ? { ...column, name: fresh } : column,
          ),
        });
        return `ALTER TABLE ${table.name} RENAME COLUMN ${old.name} TO ${fresh}`;
      }
      default:
        return `ALTER TABLE ${table.name} DROP COLUMN ${this.column(table)}`;
    }
  }

  private replace(table: Table, values: Partial<Table>): void {
    this.tables = this.tables.map((other) => (other === table ? { ...table, ...values } : other));
  }

  private drop(): string {
    const { random } = this;
    const pick = (names: string[]): string =>
      names.splice(random.integer(0, names.length - 1), 1)[0]!;
    const kind = random.integer(0, 3);
    if (kind === 0 && this.views.length > 0) return `DROP VIEW ${pick(this.views)}`;
    if (kind === 1 && this.indexes.length > 0) return `DROP INDEX ${pick(this.indexes)}`;
    if (kind === 2 && this.triggers.length > 0) return `DROP TRIGGER ${pick(this.triggers)}`;
    const table = this.table();
    this.tables = this.tables.filter((other) => other !== table);
    return `DROP TABLE ${table.name}`;
  }

  private insert(): string {
    const { random } = this;
    const table = this.table();
    const columns = table.columns.filter(({ isGenerated }) => !isGenerated || this.chance(0.03));
    const row = (): string =>
      `(${columns.map(({ name }) => this.valueFor(table, name)).join(", ")})`;
    const rows = Array.from({ length: random.integer(1, 4) }, row);
    const or = this.chance(0.3)
      ? ` OR ${random.pick(["IGNORE", "REPLACE", "ROLLBACK", "ABORT", "FAIL"])}`
      : "";
    const returning = this.chance(0.15) ? " RETURNING *" : "";
    const [first] = columns;
    const upsert =
      or === "" && first !== undefined && table.kind === "table" && this.chance(0.25)
        ? ` ON CONFLICT${this.chance(0.5) ? `(${first.name})` : ""} DO ${this.chance(0.3) ? "NOTHING" : `UPDATE SET ${random.pick(columns).name} = excluded.${first.name}`}`
        : "";
    return `INSERT${or} INTO ${table.name}(${columns.map(({ name }) => name).join(", ")}) VALUES ${rows.join(", ")}${upsert}${returning}`;
  }

  private valueFor(table: Table, column: string): string {
    if (column === "id" && this.chance(0.8))
      return this.chance(0.2) ? "NULL" : String(this.random.integer(1, 60));
    if (column === "parent") return this.chance(0.5) ? "NULL" : String(this.random.integer(1, 60));
    return table.kind === "rtree" ? String(this.random.integer(0, 50)) : this.literal();
  }

  private bulkInsert(): string {
    const table = this.table();
    const columns = table.columns.filter(
      ({ name, isGenerated }) => !isGenerated && name !== "id" && name !== "parent",
    );
    const values = columns.map(() =>
      this.random.pick(["n", "n % 7", "hex(zeroblob(n % 300))", "'word ' || n", "NULL"]),
    );
    const count = this.random.pick([10, 40, 300]);
    return (
      `WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series LIMIT ${count}) ` +
      `INSERT OR IGNORE INTO ${table.name}(${columns.map(({ name }) => name).join(", ")}) SELECT ${values.join(", ")} FROM series`
    );
  }

  private update(): string {
    const table = this.table();
    const column = this.random.pick(table.columns.filter(({ isGenerated }) => !isGenerated)).name;
    const or = this.chance(0.2) ? ` OR ${this.random.pick(["IGNORE", "REPLACE", "ROLLBACK"])}` : "";
    const returning = this.chance(0.1) ? ` RETURNING ${this.column(table)}` : "";
    return `UPDATE${or} ${table.name} SET ${column} = ${this.expression(table)} WHERE ${this.condition(table)}${returning}`;
  }

  private remove(): string {
    const table = this.table();
    if (this.chance(0.05)) return `DELETE FROM ${table.name}`;
    return `DELETE FROM ${table.name} WHERE ${this.condition(table)}${this.chance(0.1) ? " RETURNING *" : ""}`;
  }

  private select(): string {
    const { random } = this;
    const table = this.table();
    const from = `FROM ${table.name}`;
    switch (random.integer(0, 7)) {
      case 0:
        return `SELECT ${this.expression(table)} AS x, row_number() OVER (ORDER BY ${this.column(table)}, 1) AS n, sum(1) OVER (PARTITION BY typeof(${this.column(table)}) ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s ${from}`;
      case 1:
        return `SELECT typeof(${this.column(table)}) AS k, count(*), min(${this.expression(table)}), max(${this.expression(table)}), total(${this.column(table)}) ${from} GROUP BY k HAVING count(*) > 0 ORDER BY k`;
      case 2: {
        const other = this.table();
        return `SELECT count(*), max(x.${this.column(table)}) FROM ${table.name} AS x ${random.pick(["JOIN", "LEFT JOIN", "FULL JOIN"])} ${other.name} AS y ON x.${this.column(table)} = y.${this.column(other)}`;
      }
      case 3:
        return `SELECT value, type FROM json_each((SELECT json_group_array(quote(${this.column(table)})) ${from})) LIMIT 20`;
      case 4:
        return `WITH RECURSIVE r(i, s) AS (VALUES (1, '') UNION ALL SELECT i + 1, s || i FROM r WHERE i < ${random.integer(2, 12)}) SELECT * FROM r, (SELECT count(*) ${from})`;
      case 5:
        return table.kind === "fts"
          ? `SELECT rowid, highlight(${table.name}, 0, '<', '>') ${from}('${random.pick(["apple", "word*", "a OR pear", "NEAR(x y)", '"', "1"])}') ORDER BY rank, rowid LIMIT 10`
          : `SELECT * ${from} ORDER BY ${this.column(table)} DESC, 1 LIMIT ${random.integer(0, 20)} OFFSET ${random.integer(0, 3)}`;
      case 6:
        return `SELECT ${this.column(table)} ${from} ${random.pick(["UNION", "INTERSECT", "EXCEPT", "UNION ALL"])} SELECT ${this.column(table)} ${from} ORDER BY 1 LIMIT 30`;
      default:
        return `SELECT * ${from} WHERE ${this.condition(table)} AND ${this.condition(table)}`;
    }
  }

  private transaction(): string {
    const { random } = this;
    switch (random.integer(0, 7)) {
      case 0:
      case 1:
        return random.pick(["BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]);
      case 2:
        this.savepoints = [];
        return "ROLLBACK";
      case 3:
      case 4:
        this.savepoints = [];
        return "COMMIT";
      case 5: {
        const name = this.name("s");
        this.savepoints.push(name);
        return `SAVEPOINT ${name}`;
      }
      default: {
        const name = this.savepoints.at(-1);
        if (name === undefined) return random.pick(["RELEASE nothing", "COMMIT", "BEGIN"]);
        if (this.chance(0.5)) return `ROLLBACK TO ${name}`;
        this.savepoints.pop();
        return `RELEASE ${name}`;
      }
    }
  }

  private pragma(): string {
    const { random } = this;
    const table = this.table();
    return random.pick([
      `PRAGMA foreign_keys = ${random.pick(["ON", "ON", "OFF"])}`,
      `PRAGMA user_version = ${random.integer(0, 1000)}`,
      "PRAGMA user_version",
      `PRAGMA application_id = ${random.integer(0, 1000)}`,
      "PRAGMA integrity_check",
      "PRAGMA quick_check",
      "PRAGMA foreign_key_check",
      "PRAGMA page_count",
      "PRAGMA freelist_count",
      "PRAGMA schema_version",
      `PRAGMA table_xinfo(${table.name})`,
      `PRAGMA index_list(${table.name})`,
      `PRAGMA foreign_key_list(${table.name})`,
      `PRAGMA recursive_triggers = ${random.pick(["ON", "OFF"])}`,
      "PRAGMA defer_foreign_keys = ON",
      `PRAGMA auto_vacuum = ${random.pick(["NONE", "FULL", "INCREMENTAL"])}`,
      "PRAGMA incremental_vacuum(3)",
      "PRAGMA encoding",
    ]);
  }
}
