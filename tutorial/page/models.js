/* The two models of the page: the base model and the fine-tuned one, loaded when a figure needs them.

   A model's file (models.py) is a script, since a page that was opened from the disk may load nothing else. All ids are
   GPT-2's; a model knows in which row of its smaller embedding each of them stands. */
'use strict';

const page = JSON.parse(document.getElementById('page-data').textContent);  // see html.py
const LONGEST = 64;  // tokens of an answer, as in the notebook
window.modelFiles = {};

// Long work is cut into slices: whoever awaits this lets the browser draw and hear the reader.
let worked = 0;
async function breathe() {
  if (performance.now() - worked < 30) return;
  await new Promise(done => setTimeout(done));
  worked = performance.now();
}

function shorts(base64) {  // base64 of 16-bit numbers
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return new Uint16Array(bytes.buffer);
}

// Every float16: a bit for the sign, five for the exponent, ten for the fraction.
const HALVES = Float32Array.from({length: 65536}, (_, bits) => {
  const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
  return (bits >> 15 ? -1 : 1) * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
});

async function floats(base64) {
  const out = new Float32Array(Math.floor(base64.replace(/=+$/, '').length * 3 / 8)), piece = 400_000;
  for (let from = 0; from < base64.length; from += piece) {
    out.set(Float32Array.from(shorts(base64.slice(from, from + piece)), bits => HALVES[bits]), from * 3 / 8);
    await breathe();
  }
  return out;
}

const tokenizer = new Tokenizer(shorts(page.merges));

// The prompt of the training, as text.
const promptOf = (instruction, input) => (input ? page.promptWithInput : page.prompt)
  .replace(/\{(instruction|input)\}/g, (_, name) => name === 'input' ? input : instruction);

class Model {
  constructor(file, weights) {
    this.ids = shorts(file.tokens);  // GPT-2's id of each row
    this.rows = new Map(Array.from(this.ids, (id, row) => [id, row]));
    this.gpt = new GPT2({...file, vocabulary: this.ids.length}, weights);
    this.last = {rows: [], text: this.gpt.begin()};
  }

  rowsOf(id) {  // a token outside the small world is read as the two that it joins
    return this.rows.has(id) ? [this.rows.get(id)] : [...tokenizer.halves(id)].flatMap(half => this.rowsOf(half));
  }

  // Read a prompt. What it has in common with the one before it is in the cache.
  async read(ids) {
    const rows = ids.flatMap(id => this.rowsOf(id)), {last} = this, text = this.gpt.fork(last.text);
    const limit = this.gpt.context;
    if (rows.length >= limit) throw new RangeError(plain('too long', {limit, n: rows.length}));
    text.length = 0;
    while (text.length < rows.length - 1 && rows[text.length] === last.rows[text.length]) text.length++;
    let x;
    while (text.length < rows.length) {
      x = this.gpt.read(text, rows[text.length]);
      await breathe();
    }
    this.last = {rows, text};  // an answer writes behind these rows only
    return new Answer(this, text, x);
  }

  // Every head's attention weights from every token: [token][layer × head][token before].
  async attention(ids) {
    const text = this.gpt.begin(), all = [];
    for (const row of ids.flatMap(id => this.rowsOf(id))) {
      all.push([]);
      this.gpt.read(text, row, all[all.length - 1]);
      await breathe();
    }
    return all;
  }
}

class Answer {  // what a model says after a prompt, token by token
  constructor(model, text, x) {
    Object.assign(this, {model, text, ids: [], ended: false, scores: model.gpt.scores(x)});
  }

  get done() {
    return this.ended || this.ids.length === LONGEST || this.text.length === this.model.gpt.context;
  }

  take(id) {
    this.ended = id === tokenizer.end;
    if (this.ended) return;
    this.ids.push(id);
    if (this.done) return;
    const {gpt} = this.model;
    for (const row of this.model.rowsOf(id)) this.scores = gpt.scores(gpt.read(this.text, row));
  }

  next(temperature = 0) {
    const id = this.model.ids[choose(this.scores, temperature)];
    this.take(id);
    return id;
  }
}

const loading = {};
function load(name) {  // 'base' or 'tuned'
  return loading[name] ??= (async () => {
    await new Promise((done, failed) => document.head.append(Object.assign(document.createElement('script'), {
      src: `${name}.js`, onload: done, onerror: () => failed(new Error(plain('missing', {file: `${name}.js`})))})));
    const file = window.modelFiles[name];
    delete window.modelFiles[name];
    return new Model(file, await floats(file.weights));
  })();
}

// For the console, and for tests: await miniature.ask('What is the plural of leaf?', {model: 'base'})
window.miniature = {
  async ask(instruction, {input = '', model = 'tuned', temperature = 0} = {}) {
    const answer = await (await load(model)).read(tokenizer.encode(promptOf(instruction, input)));
    while (!answer.done) {
      answer.next(temperature);
      await breathe();
    }
    return {text: tokenizer.decode(answer.ids).trim(), ids: answer.ids, ended: answer.ended};
  },
};
