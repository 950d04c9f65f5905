// An exported codec in a browser: audio (Float32Array) to codes and back, by onnxruntime-web.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send

export class Codec {
  static async load(folder) {
    const found = await fetch(`${folder}/codec.json`);
    if (!found.ok) throw new Error(`${folder}/codec.json is not there: npm run codec`);
    const about = await found.json();
    const open = (name) =>
      ort.InferenceSession.create(`${folder}/${about.graphs[name].file}`);
    return new Codec(about, await open("encoder"), await open("decoder"));
  }

  constructor(about, encoder, decoder) {
    Object.assign(this, { about, encoder, decoder });
    this.rate = about.sample_rate;
    this.sizes = about.sizes;
  }

  // Samples at `rate` to { codes: a row of integers for each codebook, samples: their number }.
  async encode(samples) {
    if (!samples.length) throw new Error("no samples in this recording");
    const audio = new ort.Tensor("float32", samples, [1, 1, samples.length]);
    const { codes } = await this.encoder.run({ audio });
    const [, rows, frames] = codes.dims;
    const flat = Array.from(codes.data, Number);
    const split = (k) => flat.slice(k * frames, (k + 1) * frames);
    return { codes: Array.from({ length: rows }, (_, k) => split(k)), samples: samples.length };
  }

  // The first `codebooks` rows to exactly as many samples as went in; -1 is no code.
  async decode({ codes, samples }, codebooks = codes.length) {
    const flat = codes.flatMap((row, k) => (k < codebooks ? row : row.map(() => -1)));
    const input = new ort.Tensor("int64", BigInt64Array.from(flat, BigInt), [
      1, codes.length, codes[0].length,
    ]);
    const { audio } = await this.decoder.run({ codes: input });
    return audio.data.slice(0, samples);
  }
}
