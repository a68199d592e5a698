/** Principals as data, between threads: the same id and scopes, so the same answers to what they may do. */
import type { AccessLevel, Scope } from "../access/claims.ts";
import {
  compilePattern,
  exactPattern,
  type NamePattern,
  type PatternKind,
} from "../access/name-pattern.ts";
import { type Principal, UNAUTHENTICATED } from "../access/principal.ts";

interface CarriedPattern {
  readonly text: string;
  readonly isExact: boolean;
}

interface CarriedScope {
  readonly database: CarriedPattern;
  readonly branch: CarriedPattern;
  readonly access: AccessLevel;
  readonly isAttachable: boolean;
}

/** Null: everybody, on a server without authentication. */
export type CarriedPrincipal =
  | (Omit<Principal, "scopes"> & { readonly scopes: readonly CarriedScope[] })
  | null;

export function carryPrincipal(principal: Principal): CarriedPrincipal {
  if (principal === UNAUTHENTICATED) return null;
  const scopes = principal.scopes.map(({ database, branch, access, isAttachable }) => ({
    database: carryPattern(database),
    branch: carryPattern(branch),
    access,
    isAttachable,
  }));
  return { ...principal, scopes };
}

export function revivePrincipal(carried: CarriedPrincipal): Principal {
  if (carried === null) return UNAUTHENTICATED;
  return { ...carried, scopes: carried.scopes.map((scope) => reviveScope(scope)) };
}

function reviveScope({ database, branch, ...others }: CarriedScope): Scope {
  return {
    database: revivePattern("database", database),
    branch: revivePattern("branch", branch),
    ...others,
  };
}

function carryPattern({ text, isExact }: NamePattern): CarriedPattern {
  return { text, isExact };
}

function revivePattern(kind: PatternKind, { text, isExact }: CarriedPattern): NamePattern {
  return isExact ? exactPattern(text) : compilePattern(kind, text);
}
