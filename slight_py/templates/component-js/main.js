// Counts the visits of /hello/NAME. Each request is answered by an instance of its own: what should outlive it goes into
// a store.
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.12";
import { increment } from "wasi:keyvalue/atomics@0.2.0-draft2";
import { open } from "wasi:keyvalue/store@0.2.0-draft2";

export const incomingHandler = {
  handle(request, out) {
    const path = request.pathWithQuery() ?? "";
    if (!path.startsWith("/hello/")) return answer(out, 404, "there is /hello/NAME\n");
    try {
      answer(out, 200, `hello, this is visit ${increment(open("visits"), path.slice("/hello/".length), 1n)}\n`);
    } catch (error) {
      answer(out, 500, `${JSON.stringify(error.payload)}\n`);
    }
  },
};

function answer(out, status, text) {
  const response = new OutgoingResponse(new Fields());
  response.setStatusCode(status);
  const body = response.body();
  ResponseOutparam.set(out, { tag: "ok", val: response });
  const stream = body.write();
  stream.blockingWriteAndFlush(new TextEncoder().encode(text));
  stream[Symbol.dispose]();
  OutgoingBody.finish(body, undefined);
}
