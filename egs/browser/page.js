// The page: pick or record audio, see its tokens, hear them with any number of codebooks.
import { Codec } from "./codec.js";

const at = (id) => document.getElementById(id);
const say = (text) => (at("said").textContent = text);
let codec, tokens;

async function take(bytes) {
  say("reading ...");
  const reader = new OfflineAudioContext(1, 1, codec.rate); // decoding resamples to its rate
  const audio = await reader.decodeAudioData(bytes);
  const mono = new Float32Array(audio.length);
  for (let c = 0; c < audio.numberOfChannels; c++)
    audio.getChannelData(c).forEach((x, i) => (mono[i] += x / audio.numberOfChannels));
  say("encoding ...");
  const began = performance.now();
  tokens = await codec.encode(mono);
  const seconds = mono.length / codec.rate, took = (performance.now() - began) / 1000;
  say(`${seconds.toFixed(2)} s encoded in ${took.toFixed(2)} s, ${(seconds / took).toFixed(0)}x real time`);
  draw(tokens.codes);
  await play();
}

function draw(codes) {
  const canvas = at("tokens"), frames = codes[0].length;
  Object.assign(canvas, { width: frames, height: codes.length });
  const brush = canvas.getContext("2d");
  codes.forEach((row, k) =>
    row.forEach((code, f) => {
      brush.fillStyle = `hsl(${(360 * code) / codec.sizes[k]} 70% 50%)`;
      brush.fillRect(f, k, 1, 1);
    }),
  );
}

async function play() {
  if (!tokens) return;
  const wave = await codec.decode(tokens, Number(at("codebooks").value));
  const bytes = new DataView(new ArrayBuffer(44 + 2 * wave.length)), word = (i, n) => bytes.setUint32(i, n, true);
  [..."RIFF    WAVEfmt "].forEach((c, i) => bytes.setUint8(i, c.charCodeAt()));
  [..."data"].forEach((c, i) => bytes.setUint8(36 + i, c.charCodeAt()));
  word(4, 36 + 2 * wave.length), word(16, 16), word(20, 0x10001), word(24, codec.rate);
  word(28, 2 * codec.rate), word(32, 0x100002), word(40, 2 * wave.length);
  wave.forEach((x, i) => bytes.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, x)) * 32767, true));
  at("player").src = URL.createObjectURL(new Blob([bytes.buffer], { type: "audio/wav" }));
  document.body.dataset.samples = wave.length;
}

const tried = (work) => (event) => work(event).catch((error) => say(`error: ${error.message ?? error}`));
at("file").onchange = tried(async (event) => take(await event.target.files[0].arrayBuffer()));
at("codebooks").oninput = () => (at("count").textContent = at("codebooks").value);
at("codebooks").onchange = tried(play);
at("record").onclick = tried((await import("./record.js")).recorder(take, say));
tried(async () => {
  codec = await Codec.load("codec");
  at("codebooks").max = at("codebooks").value = at("count").textContent = codec.sizes.length;
  say(`${codec.about.codec}, ${codec.rate} Hz, ${codec.sizes.length} codebooks: ready`);
})();
window.audiotok = { get codec() { return codec; }, get tokens() { return tokens; } };
