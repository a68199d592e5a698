/**
 * Drizzle's better-sqlite3 driver, unchanged, on bough/better-sqlite3. vitest.config.ts resolves the driver's own import
 * of "better-sqlite3" to it, as an alias in a user's bundler or package.json does.
 */
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { count, eq, relations, sql } from "drizzle-orm";
import { type BetterSQLite3Database, drizzle } from "drizzle-orm/better-sqlite3";
import { migrate } from "drizzle-orm/better-sqlite3/migrator";
import { blob, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Database } from "../src/better-sqlite3.ts";

const users = sqliteTable("users", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  name: text("name").notNull().unique(),
  isAdmin: integer("is_admin", { mode: "boolean" }).notNull().default(false),
  createdAt: integer("created_at", { mode: "timestamp" }),
  settings: text("settings", { mode: "json" }).$type<{ theme: string }>(),
  avatar: blob("avatar", { mode: "buffer" }),
  balance: blob("balance", { mode: "bigint" }),
});

const posts = sqliteTable("posts", {
  id: integer("id").primaryKey(),
  title: text("title").notNull(),
  authorId: integer("author_id")
    .notNull()
    .references(() => users.id, { onDelete: "cascade" }),
});

const likes = sqliteTable(
  "likes",
  { userId: integer("user_id").notNull(), postId: integer("post_id").notNull() },
  (table) => [primaryKey({ columns: [table.userId, table.postId] })],
);

const usersRelations = relations(users, ({ many }) => ({ posts: many(posts) }));
const postsRelations = relations(posts, ({ one }) => ({
  author: one(users, { fields: [posts.authorId], references: [users.id] }),
}));

const schema = { users, posts, likes, usersRelations, postsRelations };

const MIGRATIONS = [
  `CREATE TABLE users (
     id integer PRIMARY KEY AUTOINCREMENT NOT NULL, name text NOT NULL, is_admin integer DEFAULT false NOT NULL,
     created_at integer, settings text, avatar blob, balance blob
   );
--> statement-breakpoint
CREATE UNIQUE INDEX users_name_unique ON users (name);`,
  `CREATE TABLE posts (
     id integer PRIMARY KEY NOT NULL, title text NOT NULL,
     author_id integer NOT NULL REFERENCES users(id) ON DELETE CASCADE
   );
--> statement-breakpoint
CREATE TABLE likes (user_id integer NOT NULL, post_id integer NOT NULL, PRIMARY KEY(user_id, post_id));`,
];

let directory: string;
let client: InstanceType<typeof Database>;
let db: BetterSQLite3Database<typeof schema>;

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-drizzle-"));
  client = new Database(join(directory, "store"));
  db = drizzle(client, { schema });
  writeMigrations(2);
  migrate(db, { migrationsFolder: join(directory, "migrations") });
});

afterEach(() => {
  client.close();
  fs.rmSync(directory, { recursive: true, force: true });
});

/** As drizzle-kit writes them. */
function writeMigrations(migrationCount: number): void {
  const folder = join(directory, "migrations");
  fs.mkdirSync(join(folder, "meta"), { recursive: true });
  const entries = MIGRATIONS.slice(0, migrationCount).map((text, idx) => {
    fs.writeFileSync(join(folder, `000${idx}_step.sql`), text);
    return {
      idx,
      version: "6",
      when: 1_700_000_000_000 + idx,
      tag: `000${idx}_step`,
      breakpoints: true,
    };
  });
  const journal = { version: "7", dialect: "sqlite", entries };
  fs.writeFileSync(join(folder, "meta", "_journal.json"), JSON.stringify(journal));
}

describe("Drizzle", () => {
  test("its migrator applies each migration once", () => {
    migrate(db, { migrationsFolder: join(directory, "migrations") });
    const applied = client.prepare("SELECT count(*) FROM __drizzle_migrations").pluck().get();
    expect(applied).toBe(2);
    const tables = client
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
      .pluck()
      .all();
    expect(new Set(tables)).toEqual(new Set(["__drizzle_migrations", "likes", "posts", "users"]));
  });

  test("a migration that fails leaves nothing behind", () => {
    const folder = join(directory, "migrations");
    fs.writeFileSync(
      join(folder, "0002_bad.sql"),
      "CREATE TABLE half (id);\n--> statement-breakpoint\nNOT SQL;",
    );
    const path = join(folder, "meta", "_journal.json");
    const journal = JSON.parse(fs.readFileSync(path, "utf8")) as { entries: object[] };
    journal.entries.push({
      idx: 2,
      version: "6",
      when: 1_800_000_000_000,
      tag: "0002_bad",
      breakpoints: true,
    });
    fs.writeFileSync(path, JSON.stringify(journal));
    expect(() => migrate(db, { migrationsFolder: folder })).toThrow();
    expect(client.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'half'").get()).toBeUndefined();
    expect(client.inTransaction).toBe(false);
  });

  test("every column type comes back as it went in", () => {
    const row = {
      name: "Ada",
      isAdmin: true,
      createdAt: new Date(1_763_600_000_000),
      settings: { theme: "dark" },
      avatar: Buffer.from([0, 1, 255]),
      balance: 2n ** 70n,
    };
    const [inserted] = db.insert(users).values(row).returning().all();
    expect(inserted).toEqual({ id: 1, ...row });
    expect(db.select().from(users).where(eq(users.name, "Ada")).get()).toEqual({ id: 1, ...row });
  });

  test("runs tell changes and the last row id", () => {
    const result = db
      .insert(users)
      .values([{ name: "a" }, { name: "b" }])
      .run();
    expect(result).toEqual({ changes: 2, lastInsertRowid: 2 });
  });

  test("joins and relational queries", () => {
    addPosts();
    const joined = db
      .select({ name: users.name, posts: count(posts.id) })
      .from(users)
      .leftJoin(posts, eq(posts.authorId, users.id))
      .groupBy(users.id)
      .orderBy(users.id)
      .all();
    expect(joined).toEqual([
      { name: "Ada", posts: 2 },
      { name: "Grace", posts: 0 },
    ]);
    const ada = db.query.users
      .findFirst({ columns: { name: true }, with: { posts: { columns: { title: true } } } })
      .sync();
    expect(ada).toEqual({ name: "Ada", posts: [{ title: "one" }, { title: "two" }] });
  });

  test("upserts, updates and deletes with returning", () => {
    addPosts();
    const upserted = db
      .insert(users)
      .values({ name: "Ada", settings: { theme: "light" } })
      .onConflictDoUpdate({ target: users.name, set: { isAdmin: true } })
      .returning({ id: users.id, isAdmin: users.isAdmin })
      .all();
    expect(upserted).toEqual([{ id: 1, isAdmin: true }]);
    client.pragma("foreign_keys = ON");
    const gone = db.delete(users).where(eq(users.id, 1)).returning({ name: users.name }).all();
    expect(gone).toEqual([{ name: "Ada" }]);
    expect(db.select({ left: count() }).from(posts).get()).toEqual({ left: 0 });
  });

  test("transactions commit, roll back, and nest", () => {
    db.transaction((outer) => {
      outer.insert(users).values({ name: "kept" }).run();
      expect(() =>
        outer.transaction((inner) => {
          inner.insert(users).values({ name: "lost" }).run();
          inner.rollback();
        }),
      ).toThrow("Rollback");
    });
    expect(() =>
      db.transaction(
        (trx) => {
          trx.insert(users).values({ name: "lost" }).run();
          trx.insert(users).values({ name: "kept" }).run();
        },
        { behavior: "immediate" },
      ),
    ).toThrow();
    expect(db.select({ name: users.name }).from(users).all()).toEqual([{ name: "kept" }]);
  });

  test("prepared statements take placeholders again and again", () => {
    addPosts();
    const prepared = db
      .select({ id: users.id })
      .from(users)
      .where(eq(users.name, sql.placeholder("name")))
      .prepare();
    expect(prepared.get({ name: "Ada" })).toEqual({ id: 1 });
    expect(prepared.get({ name: "Grace" })).toEqual({ id: 2 });
    expect(prepared.all({ name: "nobody" })).toEqual([]);
    expect(prepared.values({ name: "Ada" })).toEqual([[1]]);
    expect(db.all(sql`SELECT ${1} + 1 AS two`)).toEqual([{ two: 2 }]);
  });

  test("opens a store by itself, from a path", () => {
    const own = drizzle(join(directory, "other"));
    own.run(sql`CREATE TABLE t (a)`);
    expect(own.$client).toBeInstanceOf(Database);
    own.$client.close();
  });

  test("a fork of the database is another database to it", () => {
    addPosts();
    const store = join(directory, "store");
    const name = client.prepare("SELECT bough_database()").pluck().get();
    expect(name).toBe("main");
    const old = new Database(`main@${String(versionOf(client) - 1)}`, { store });
    expect(drizzle(old, { schema }).select({ rows: count() }).from(posts).get()).toEqual({
      rows: 0,
    });
    expect(() => drizzle(old).run(sql`DELETE FROM posts`)).toThrow();
    old.close();
    expect(db.select({ rows: count() }).from(posts).get()).toEqual({ rows: 2 });
  });
});

function versionOf(connection: InstanceType<typeof Database>): number {
  return Number(connection.prepare("SELECT bough_version()").pluck().get());
}

function addPosts(): void {
  db.insert(users)
    .values([{ name: "Ada" }, { name: "Grace" }])
    .run();
  db.insert(posts)
    .values([
      { title: "one", authorId: 1 },
      { title: "two", authorId: 1 },
    ])
    .run();
}
