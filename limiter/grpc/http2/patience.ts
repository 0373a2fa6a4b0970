import { CODE, ConnectionFault } from './faults.ts';

const MAX_CREDIT = 2_000;
const CREDIT_OF_CALL = 4;
const CREDIT_OF_SECOND = 500;

/**
 * How many frames a connection may send that bring no call forward: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, resets,
 * empty DATA, streams beyond the limit. Each costs us more than it costs who sends it. Calls that were answered allow for some.
 */
export class Patience {
  #credit = MAX_CREDIT;

  /** Throws ConnectionFault when there is none left. */
  spend(frames: number): void {
    this.#credit -= frames;
    if (this.#credit < 0) throw new ConnectionFault(CODE.enhanceYourCalm, 'too many frames that bring nothing');
  }

  callAnswered(): void {
    this.#earn(CREDIT_OF_CALL);
  }

  secondPassed(): void {
    this.#earn(CREDIT_OF_SECOND);
  }

  #earn(credit: number): void {
    this.#credit = Math.min(this.#credit + credit, MAX_CREDIT);
  }
}
