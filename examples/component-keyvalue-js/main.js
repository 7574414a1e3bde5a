// Values by HTTP: GET, PUT and DELETE of /KEY, and GET of / for the list of keys. A component has the methods of
// WASI's interfaces, and what JavaScript itself has.
import { Fields, IncomingBody, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.12";
import { open } from "wasi:keyvalue/store@0.2.0-draft2";

const encoder = new TextEncoder();

export const incomingHandler = {
  handle(request, out) {
    const key = decodeURIComponent((request.pathWithQuery() ?? "/").slice(1));
    try {
      answer(out, ...act(open("values"), request, key));
    } catch (error) {
      answer(out, 500, encoder.encode(`${JSON.stringify(error.payload ?? String(error))}\n`));
    }
  },
};

// The status and the body of the response.
function act(bucket, request, key) {
  switch (request.method().tag) {
    case "get": {
      if (!key) return [200, encoder.encode(listed(bucket).join("\n") + "\n")];
      const value = bucket.get(key);
      return value ? [200, value] : [404, encoder.encode("there is no such key\n")];
    }
    case "put":
      bucket.set(key, read(request));
      return [204, new Uint8Array()];
    case "delete":
      bucket.delete(key);
      return [204, new Uint8Array()];
    default:
      return [405, encoder.encode("there are GET, PUT and DELETE\n")];
  }
}

// All keys, in order. A store with many gives them a page at a time.
function listed(bucket) {
  const keys = [];
  for (let cursor; ; ) {
    const page = bucket.listKeys(cursor);
    keys.push(...page.keys);
    if ((cursor = page.cursor) === undefined) return keys.sort();
  }
}

function read(request) {
  const body = request.consume();
  const stream = body.stream();
  const pieces = [];
  for (;;) {
    try {
      pieces.push(...stream.blockingRead(65536n));
    } catch (error) {
      if (error.payload?.tag !== "closed") throw error;
      break;
    }
  }
  stream[Symbol.dispose]();
  IncomingBody.finish(body);
  return Uint8Array.from(pieces);
}

function answer(out, status, bytes) {
  const response = new OutgoingResponse(new Fields());
  response.setStatusCode(status);
  const body = response.body();
  ResponseOutparam.set(out, { tag: "ok", val: response });
  const stream = body.write();
  // So many bytes can be written at once, by the rules of wasi:io.
  for (let at = 0; at < bytes.length; at += 4096) stream.blockingWriteAndFlush(bytes.subarray(at, at + 4096));
  stream[Symbol.dispose]();
  OutgoingBody.finish(body, undefined);
}
