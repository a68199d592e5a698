/** The cipher that the parts of an open store hold: it follows the key ring through rotations. */
import type { OpenSealedOptions, SealOptions, StoreCipher } from "./cipher.ts";
import type { KeyRing } from "./key-ring.ts";

export class CurrentCipher implements StoreCipher {
  ring: KeyRing;

  constructor(ring: KeyRing) {
    this.ring = ring;
  }

  get activeKeyNumber(): number {
    return this.ring.activeKeyNumber;
  }

  seal(options: SealOptions, plaintext: Uint8Array): Uint8Array {
    return this.ring.seal(options, plaintext);
  }

  open(options: OpenSealedOptions, sealed: Uint8Array): Uint8Array {
    return this.ring.open(options, sealed);
  }

  address(bytes: Uint8Array): Uint8Array {
    return this.ring.address(bytes);
  }
}
