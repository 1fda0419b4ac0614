/* GPT-2 in plain JavaScript. A text is read one token at a time: each layer keeps the keys and values of all earlier
   tokens (the cache), so that reading one more costs one column of the work, not the whole table.

   D is the width of the stream, T the number of tokens read. All vectors are Float32Arrays. */
'use strict';

// A vector times a matrix, plus a bias. weight: one row for each input, (inputs, outputs), as OpenAI stores it.
function linear(x, {weight, bias}) {
  const y = Float32Array.from(bias), n = y.length;
  for (let i = 0; i < x.length; i += 4) {  // four rows at once: a quarter of the stores
    const x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
    const a = i * n, b = a + n, c = b + n, d = c + n;
    for (let j = 0; j < n; j++) {
      y[j] += x0 * weight[a + j] + x1 * weight[b + j] + x2 * weight[c + j] + x3 * weight[d + j];
    }
  }
  return y;
}

// LayerNorm: mean 0 and variance 1, then a learned gain and bias for each number.
function norm(x, {gain, bias}) {
  let mean = 0, variance = 0;
  for (const value of x) mean += value / x.length;
  for (const value of x) variance += (value - mean) * (value - mean) / x.length;
  const scale = 1 / Math.sqrt(variance + 1e-5);
  return x.map((value, i) => (value - mean) * scale * gain[i] + bias[i]);
}

// GELU: near 0 for negative numbers, near the number itself for positive ones. GPT-2 uses this approximation.
const ROOT = Math.sqrt(2 / Math.PI);
const gelu = z => 0.5 * z * (1 + Math.tanh(ROOT * (z + 0.044715 * z * z * z)));

function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}

function dot(a, b, n, i = 0, j = 0) {  // of n numbers, from place i of a and place j of b
  let even = 0, odd = 0;  // two sums, which needn't wait for one another
  for (let k = 0; k < n; k += 2) {
    even += a[i + k] * b[j + k];
    odd += a[i + k + 1] * b[j + k + 1];
  }
  return even + odd;
}

// Scores to probabilities. A temperature below 1 sharpens them, above 1 it makes them more even.
function softmax(scores, temperature = 1) {
  let highest = -Infinity, sum = 0;
  for (const score of scores) if (score > highest) highest = score;
  const p = scores.map(score => Math.exp((score - highest) / temperature));
  for (const value of p) sum += value;
  return p.map(value => value / sum);
}

const likeliest = scores => scores.reduce((best, score, i) => score > scores[best] ? i : best, 0);

// The row that is taken: the likeliest at temperature 0, else one drawn by its probability.
function choose(scores, temperature = 0) {
  if (temperature === 0) return likeliest(scores);
  let rest = Math.random();
  const drawn = softmax(scores, temperature).findIndex(p => (rest -= p) < 0);
  return drawn < 0 ? likeliest(scores) : drawn;  // rounding may leave a little rest
}

class GPT2 {
  constructor({width, heads, layers, context, vocabulary}, weights) {
    let at = 0;
    const take = size => weights.subarray(at, at += size);
    const takeNorm = () => ({gain: take(width), bias: take(width)});
    const takeLinear = (inputs, outputs) => ({weight: take(inputs * outputs), bias: take(outputs)});
    Object.assign(this, {width, heads, context, vocabulary});
    this.tokens = take(vocabulary * width);
    this.positions = take(context * width);
    this.blocks = Array.from({length: layers}, () => ({
      norm1: takeNorm(), attention: takeLinear(width, 3 * width), projection: takeLinear(width, width),
      norm2: takeNorm(), widen: takeLinear(width, 4 * width), narrow: takeLinear(4 * width, width)}));
    this.finalNorm = takeNorm();
  }

  begin() {  // a text of which nothing is read yet
    const room = () => this.blocks.map(() => new Float32Array(this.context * this.width));
    return {length: 0, keys: room(), values: room()};
  }

  fork({length, keys, values}) {  // a copy, to read on in two ways
    return {length, keys: keys.map(k => k.slice()), values: values.map(v => v.slice())};
  }

  // Read one more token, given by its row in the embedding: the vector (D) from which the next one is guessed.
  // weights: an array that gets every head's attention weights from here, layer by layer.
  read(text, row, weights = null) {
    const {width: D} = this, x = new Float32Array(D), position = text.length++;
    for (let i = 0; i < D; i++) x[i] = this.tokens[row * D + i] + this.positions[position * D + i];
    this.blocks.forEach((block, layer) => {
      const qkv = linear(norm(x, block.norm1), block.attention);                // query, key and value, (3 D)
      text.keys[layer].set(qkv.subarray(D, 2 * D), position * D);
      text.values[layer].set(qkv.subarray(2 * D), position * D);
      add(x, linear(this.attend(qkv, text, layer, weights), block.projection)); // the shortcut: add to what came in
      add(x, linear(linear(norm(x, block.norm2), block.widen).map(gelu), block.narrow));
    });
    return norm(x, this.finalNorm);
  }

  // Each head compares the query with the keys of all tokens so far, and mixes their values by how well they fit. There
  // is no mask: later tokens aren't read yet.
  attend(query, {length: T, keys, values}, layer, weights) {
    const {width: D, heads} = this, size = D / heads, mixed = new Float32Array(D), V = values[layer];
    for (let head = 0; head < heads; head++) {
      const from = head * size, scores = new Float32Array(T);
      for (let t = 0; t < T; t++) scores[t] = dot(query, keys[layer], size, from, t * D + from) / Math.sqrt(size);
      const p = softmax(scores);
      for (let t = 0; t < T; t++) for (let i = from; i < from + size; i++) mixed[i] += p[t] * V[t * D + i];
      weights?.push(p);
    }
    return mixed;
  }

  // The score of every token to come next. The output head is the token embedding: how well does each row fit x?
  scores(x) {
    return new Float32Array(this.vocabulary).map((_, row) => dot(x, this.tokens, this.width, 0, row * this.width));
  }
}
