/* What a program of JavaScript finds beside the language: texts as bytes, and the variables of WASI. */

class Encoder {
  encode(text = "") {
    const [at, length] = __slight.encode(String(text).toWellFormed());
    const bytes = new Uint8Array(__slight.memory(), at - __slight.start, length).slice();
    __slight.free(at);
    return bytes;
  }
}

class Decoder {
  decode(bytes = new Uint8Array()) {
    const source = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
    const at = __slight.allocate(source.byteLength);
    new Uint8Array(__slight.memory()).set(source, at - __slight.start);
    const text = __slight.text(at, source.byteLength);
    __slight.free(at);
    return text;
  }
}

globalThis.TextEncoder = Encoder;
globalThis.TextDecoder = Decoder;

/* An environment variable, or undefined. */
globalThis.env = (name) => __slight.variable(name);
