/* GPT-2's tokenizer: texts to ids and back.

   Byte-pair encoding was trained like this: begin with the 256 bytes, join the pair of neighbours that is most frequent
   in much text, and repeat, 50,000 times. Each join made a token. So a token's id tells when it was made, and the whole
   vocabulary is a list of pairs: token 256 + i joins the two older tokens in pair i. To encode a text, make the same
   joins again, the oldest first. */
'use strict';

// Where one piece ends and the next begins; no token reaches over such a border. A space belongs to the word after it.
const PIECES = new RegExp("'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+"
  + '|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+', 'gu');

// GPT-2 numbers the bytes that can be printed first: "!" is 0.
const printable = byte => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
const EVERY_BYTE = Array.from({length: 256}, (_, byte) => byte);
const BYTES = [...EVERY_BYTE.filter(printable), ...EVERY_BYTE.filter(byte => !printable(byte))];

class Tokenizer {
  constructor(pairs) {  // a Uint16Array: two ids for each join
    this.pairs = pairs;
    this.end = 256 + pairs.length / 2;  // <|endoftext|>, which no text can spell: 50256
    this.idOfByte = EVERY_BYTE.map(byte => BYTES.indexOf(byte));
    this.idOfPair = new Map();
    for (let i = 0; i < pairs.length; i += 2) this.idOfPair.set(this.key(pairs[i], pairs[i + 1]), 256 + i / 2);
  }

  key(first, second) {  // both in one number, which a Map finds quickly
    return first * 65536 + second;
  }

  encode(text) {
    return (text.match(PIECES) || []).flatMap(piece => this.join(
      Array.from(new TextEncoder().encode(piece), byte => this.idOfByte[byte])));
  }

  join(ids) {  // the ids of one piece, at first those of its bytes
    for (;;) {
      let oldest = Infinity, at = -1;
      for (let i = 0; i + 1 < ids.length; i++) {
        const id = this.idOfPair.get(this.key(ids[i], ids[i + 1]));
        if (id < oldest) [oldest, at] = [id, i];  // never for undefined: no such token
      }
      if (at < 0) return ids;
      ids.splice(at, 2, oldest);
    }
  }

  halves(id) {  // the two tokens that this one joins
    return this.pairs.subarray(2 * (id - 256), 2 * (id - 256) + 2);
  }

  bytes(id) {
    if (id === this.end) return [];
    return id < 256 ? [BYTES[id]] : [...this.halves(id)].flatMap(half => this.bytes(half));
  }

  decode(ids) {  // bytes that are no whole character become �
    return new TextDecoder().decode(Uint8Array.from(ids.flatMap(id => this.bytes(id))));
  }
}
