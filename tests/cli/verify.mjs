// Verifies the token on standard input as a publisher's server in JavaScript would, and prints
// `{"claims": …}` or `{"refused": CODE}`.
// node verify.mjs KEY_SET_URL ISSUER AUDIENCE [NOW]
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const { createRemoteJWKSet, jwtVerify } = await import(createRequire(`${process.env.JOSE}/`).resolve("jose"));

const [keySetUrl, issuer, audience, now] = process.argv.slice(2);
const options = { issuer, audience, algorithms: ["RS256"], currentDate: now ? new Date(now) : new Date() };
try {
  const { payload } = await jwtVerify(await text(process.stdin), createRemoteJWKSet(new URL(keySetUrl)), options);
  console.log(JSON.stringify({ claims: payload }));
} catch (error) {
  console.log(JSON.stringify({ refused: error.code }));
}
