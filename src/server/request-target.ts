/**
 * The target of a request in the form that everything here reads: "/shop/v2/pipeline?a=b".
 *
 *   GET /shop/v2 HTTP/1.1                       origin form: as it is
 *   GET http://shop.example/v2 HTTP/1.1         absolute form, as clients behind a proxy send it: "/v2", and the host is "shop.example"
 *
 * R1. A host in the target is the request's, whatever the header Host says (RFC 9112, 3.2.2): who checks a host checks that.
 */
import type { IncomingMessage } from "node:http";

const SLASH = 47;
/** No name and password: they are nothing that this server reads, and a way to make a host look like another one. */
const ABSOLUTE = /^https?:\/\/([^/?#@\s]+)(?=[/?#]|$)([^#]*)/i;

/** To be called before anything reads the request's URL or host. What is neither form stays, and leads to nothing. */
export function useOriginForm(request: IncomingMessage): void {
  const { url = "" } = request;
  if (url.charCodeAt(0) === SLASH) return;
  const [, host, rest] = ABSOLUTE.exec(url) ?? [];
  if (host === undefined || rest === undefined) return;
  request.headers.host = host;
  request.url = rest.startsWith("/") ? rest : `/${rest}`;
}
