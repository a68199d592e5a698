/**
 * Cuts SQL text into statements as it arrives, without knowing more of SQL than where a statement ends: at a ";" that is
 * not in a string, name or comment. CREATE TRIGGER is the exception, its body holds semicolons and ends at "; END ;".
 *
 *   start --EXPLAIN--> start --CREATE--> create --TEMP, TEMPORARY--> create --TRIGGER--> body
 *   start, create --any other word--> plain --";"--> (statement)
 *   body --";"--> body-end? --END--> body-end --";"--> (statement); anything else --> body
 *
 * Q1. The texts of all statements and what remains, put together, are the input.
 * Q2. Each character is looked at once, however the input is cut into pieces.
 */
export interface SqlStatement {
  /** Without leading and trailing white space. */
  readonly sql: string;
  /** Where its first word stands in the input, from 1. */
  readonly line: number;
}

type Phase = "start" | "create" | "plain" | "body" | "body-semicolon" | "body-end";

type Lexeme =
  | { readonly kind: "code" }
  /** Letters up to now in upper case, as far as a keyword can be long. */
  | { readonly kind: "word"; readonly letters: string }
  /** A first character of "--" or of a block comment. */
  | { readonly kind: "maybe-comment"; readonly character: string }
  | { readonly kind: "quoted"; readonly until: string }
  | { readonly kind: "line-comment" }
  | { readonly kind: "block-comment"; readonly star: boolean };

const CODE: Lexeme = { kind: "code" };
const LINE_COMMENT: Lexeme = { kind: "line-comment" };
const KEYWORD_LENGTH_MAX = 10;
const CLOSING: ReadonlyMap<string, string> = new Map([
  ["'", "'"],
  ['"', '"'],
  ["`", "`"],
  ["[", "]"],
]);

export class SqlSplitter {
  #text = "";
  #lexeme: Lexeme = CODE;
  #phase: Phase = "start";
  #hasTokens = false;
  #line = 1;
  #firstLine = 1;

  /** A statement has begun and not ended. */
  get isPending(): boolean {
    return this.#hasTokens;
  }

  /** The statements that `piece` completes. */
  push(piece: string): SqlStatement[] {
    const statements: SqlStatement[] = [];
    let start = 0;
    for (let index = 0; index < piece.length; index++) {
      const lexeme = this.#lexeme;
      if (lexeme.kind === "quoted") {
        const end = piece.indexOf(lexeme.until, index);
        const stop = end === -1 ? piece.length : end;
        this.#countLines(piece, index, stop);
        if (end !== -1) this.#lexeme = CODE;
        index = stop;
        continue;
      }
      const character = piece[index]!;
      const ended = this.#take(character);
      if (character === "\n") this.#line++;
      if (!ended) continue;
      this.#text += piece.slice(start, index + 1);
      start = index + 1;
      const statement = this.#cut();
      if (statement !== null) statements.push(statement);
    }
    this.#text += piece.slice(start);
    return statements;
  }

  /** What remains at the end of the input: a statement without a semicolon, or null. */
  finish(): SqlStatement | null {
    if (this.#lexeme.kind === "maybe-comment") this.#token();
    this.#lexeme = CODE;
    return this.#cut();
  }

  #cut(): SqlStatement | null {
    const statement = { sql: this.#text.trim(), line: this.#firstLine };
    const isEmpty = !this.#hasTokens;
    this.#text = "";
    this.#hasTokens = false;
    this.#phase = "start";
    return isEmpty ? null : statement;
  }

  /** Whether the character ends a statement. */
  #take(character: string): boolean {
    const lexeme = this.#lexeme;
    switch (lexeme.kind) {
      case "quoted":
        if (character === lexeme.until) this.#lexeme = CODE;
        return false;
      case "line-comment":
        if (character === "\n") this.#lexeme = CODE;
        return false;
      case "block-comment":
        if (lexeme.star && character === "/") this.#lexeme = CODE;
        else this.#lexeme = { kind: "block-comment", star: character === "*" };
        return false;
      case "maybe-comment":
        if (lexeme.character === "-" && character === "-") {
          this.#lexeme = LINE_COMMENT;
          return false;
        }
        if (lexeme.character === "/" && character === "*") {
          this.#lexeme = { kind: "block-comment", star: false };
          return false;
        }
        this.#token();
        this.#lexeme = CODE;
        return this.#takeCode(character);
      case "word":
        if (isWordCharacter(character)) {
          if (lexeme.letters.length < KEYWORD_LENGTH_MAX)
            this.#lexeme = { kind: "word", letters: lexeme.letters + character.toUpperCase() };
          return false;
        }
        this.#word(lexeme.letters);
        this.#lexeme = CODE;
        return this.#takeCode(character);
      case "code":
        return this.#takeCode(character);
    }
  }

  #takeCode(character: string): boolean {
    if (character === ";") return this.#semicolon();
    if (isSpace(character)) return false;
    if (character === "-" || character === "/") {
      this.#lexeme = { kind: "maybe-comment", character };
      return false;
    }
    if (isWordCharacter(character)) {
      this.#begin();
      this.#lexeme = { kind: "word", letters: character.toUpperCase() };
      return false;
    }
    this.#token();
    const until = CLOSING.get(character);
    if (until !== undefined) this.#lexeme = { kind: "quoted", until };
    return false;
  }

  #semicolon(): boolean {
    if (this.#phase === "body" || this.#phase === "body-semicolon") {
      this.#phase = "body-semicolon";
      return false;
    }
    return true;
  }

  #word(letters: string): void {
    const phase = this.#phase;
    if (phase === "start" && letters === "CREATE") this.#phase = "create";
    else if (phase === "start" && EXPLAINING.has(letters)) return;
    else if (phase === "create" && letters.startsWith("TEMP")) return;
    else if (phase === "create" && letters === "TRIGGER") this.#phase = "body";
    else if (phase === "body-semicolon" && letters === "END") this.#phase = "body-end";
    else this.#token();
  }

  /** Something that is no keyword of interest. */
  #token(): void {
    this.#begin();
    if (this.#phase === "start" || this.#phase === "create") this.#phase = "plain";
    else if (this.#phase === "body-semicolon" || this.#phase === "body-end") this.#phase = "body";
  }

  #begin(): void {
    if (this.#hasTokens) return;
    this.#hasTokens = true;
    this.#firstLine = this.#line;
  }

  #countLines(text: string, from: number, to: number): void {
    for (let at = text.indexOf("\n", from); at !== -1 && at < to; at = text.indexOf("\n", at + 1))
      this.#line++;
  }
}

const EXPLAINING: ReadonlySet<string> = new Set(["EXPLAIN", "QUERY", "PLAN"]);

function isSpace(character: string): boolean {
  return character === " " || (character >= "\t" && character <= "\r");
}

function isWordCharacter(character: string): boolean {
  return (
    (character >= "a" && character <= "z") ||
    (character >= "A" && character <= "Z") ||
    (character >= "0" && character <= "9") ||
    character === "_" ||
    character === "$" ||
    character >= "\u0080"
  );
}
