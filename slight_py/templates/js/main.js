// Counts the visits of /hello/NAME. Each request is answered by an instance of its own: what should outlive it goes into
// a store.

import { Router, Server } from "slight:http-server";
import { Keyvalue } from "slight:keyvalue";

// The entry point. Every other function that is exported can be a handler: `handleHello` is `handle-hello` to a route.
export function main() {
  const router = Router.new().get("/hello/:name", "handle-hello");
  Server.serve(env("ADDRESS") ?? "127.0.0.1:3000", router);
}

export function handleHello(request) {
  const [, name] = request.params.find(([param]) => param === "name");
  return { status: 200, body: `hello, this is visit ${count(name)}\n` };
}

// Counts one more visit; returns how many there were. Two visits at the same moment may count as one.
function count(name) {
  const store = Keyvalue.open("visits");
  let visits = 0;
  try {
    visits = Number(new TextDecoder().decode(store.get(name)));
  } catch (error) {
    if (error.tag !== "key-not-found") throw error;
  }
  store.set(name, String(++visits));
  return visits;
}
