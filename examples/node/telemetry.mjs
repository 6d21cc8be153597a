// Trades that the sidecar counts exactly once. The protocol is described in docs/delivery.md.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Push } from "zeromq";

const ASK_MS = 50;
const RESEND_MS = 1_000;
const MAX_RESEND_MS = 30_000;
const IDLE_MS = 24 * 3_600_000; // After a day a new session begins. The sidecar forgets idle ones after 30 days.
const FRAME_TRADES = 500; // About 100 KiB. A frame may have 1 MiB.

/** Emits trades. Keeps them in memory until the sidecar has committed them. */
export class TradePublisher {
  lost = 0; // Trades dropped from a full buffer.
  #held = []; // Trades that are not known to be committed, oldest first.
  #session; // The name they are numbered under.
  #oldest; // The number of the first. The others follow without a gap.
  #nextToSend; // The number of the next to send.
  #cursor; // The number that the sidecar expects next, as far as is known.
  #stateId; // The sidecar's state file.
  #published = 0;
  #wasAway = false;
  #movedAt = performance.now();
  #resendMs = RESEND_MS;
  #closed = false;

  /** Trades go to `address`, `url` is asked for the cursor, `capacity` trades wait before the oldest are dropped. */
  constructor({ address = "tcp://localhost:5555", url = "http://localhost:8001", capacity = 1_000_000 } = {}) {
    Object.assign(this, { url, capacity, where: `trades go to ${address}; cursors come from ${url}` });
    // The socket takes nothing without a connection, and a send that would block fails: trades wait here.
    const heartbeat = { heartbeatInterval: 1_000, heartbeatTimeout: 3_000 };
    this.socket = new Push({ immediate: true, sendTimeout: 0, sendHighWaterMark: 16, linger: 1_000, ...heartbeat });
    this.socket.connect(address);
    this.#beginSession();
    this.running = this.#run();
  }

  /** Emits a trade of `qty` units at `price` per unit, dated now. Does no I/O. Throws RangeError. */
  publish(side, qty, { symbol, price } = {}) {
    const isAmount = (value) => typeof value === "number" && value >= 0 && value <= 1e12;
    if (!["buy", "sell"].includes(side)) throw new RangeError(`side must be "buy" or "sell", not ${side}`);
    if (!isAmount(qty) || !isAmount(price ?? 0)) throw new RangeError("qty and price must be numbers from 0 to 1e12");
    if (!/^[A-Za-z0-9._:/-]{1,32}$/.test(symbol ?? "-")) throw new RangeError(`not a symbol: ${symbol}`);
    if (this.#closed) throw new Error("this publisher is closed");

    if (!this.pending && performance.now() - this.#movedAt > IDLE_MS) this.#beginSession();
    if (this.pending >= this.capacity) this.lost += this.#forget(Math.ceil(this.capacity / 8));
    this.#held.push({ type: "trade", side, qty, ts: Date.now() / 1_000, symbol, price });
    this.#published += 1;
  }

  /** Trades that are not known to be committed. */
  get pending() {
    return this.#held.length;
  }

  /** Waits until the trades published so far are committed, and tells whether they are. */
  async flush(ms = 5_000) {
    const deadline = performance.now() + ms;
    const target = this.#published;
    while (this.#published - this.pending < target && performance.now() < deadline) await sleep(5);
    return this.#published - this.pending >= target;
  }

  /** Flushes, then closes the socket. What is still pending is lost. */
  async close(ms = 5_000) {
    const isCommitted = await this.flush(ms);
    this.#closed = true;
    await this.running;
    this.socket.close();
    return isCommitted;
  }

  async #run() {
    for (; !this.#closed; await sleep(ASK_MS)) {
      if (!this.pending) continue;
      await this.#ask();
      await this.#send();
    }
  }

  /** Asks what is committed, and forgets that. */
  async #ask() {
    const cursor = await fetch(`${this.url}/sessions/${this.#session}`, { signal: AbortSignal.timeout(500) })
      .then((response) => response.json())
      .catch(() => null);
    if (!Number.isSafeInteger(cursor?.next_seq)) {
      this.#wasAway = true;
      return;
    }
    if (cursor.next_seq > this.#oldest + this.pending) {
      console.error(`session ${this.#session}: trade ${cursor.next_seq} is expected, which was never published`);
      this.#beginSession();
      return;
    }
    if (this.#stateId && cursor.state_id !== this.#stateId) {
      console.warn(`the sidecar has another state file than before; ${this.where}`);
      this.#wasAway = true;
    }
    this.#stateId = cursor.state_id;
    this.#rewindIfStuck(cursor.next_seq > this.#cursor);
    this.#cursor = cursor.next_seq;
    this.#forget(cursor.next_seq - this.#oldest);
  }

  /** Starts again from the oldest trade if the sidecar was away, or nothing moves although trades are out. */
  #rewindIfStuck(moved) {
    const now = performance.now();
    if (moved) this.#resendMs = RESEND_MS;
    if (moved || this.#nextToSend === this.#oldest) this.#movedAt = now;
    const isStuck = now - this.#movedAt >= this.#resendMs;
    if (isStuck && this.#resendMs === RESEND_MS) console.warn(`nothing was committed for a second; ${this.where}`);
    if (isStuck) this.#resendMs = Math.min(2 * this.#resendMs, MAX_RESEND_MS);
    if (isStuck || this.#wasAway) [this.#nextToSend, this.#movedAt] = [this.#oldest, now];
    this.#wasAway = false;
  }

  async #send() {
    while (this.#nextToSend < this.#oldest + this.pending) {
      const [session, first, start] = [this.#session, this.#nextToSend, this.#nextToSend - this.#oldest];
      const trades = this.#held.slice(start, start + FRAME_TRADES);
      const messages = trades.map((trade, index) => ({ ...trade, session, seq: first + index }));
      // The sidecar must not wait for trades that are no longer held.
      if (start === 0 && this.#cursor < first) messages.unshift({ type: "gap_fill", session, new_seq: first });
      try {
        await this.socket.send(messages.map((message) => JSON.stringify(message)).join("\n"));
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
        return;
      }
      this.#nextToSend = Math.max(first + trades.length, this.#oldest);
    }
  }

  /** Drops the oldest `count` trades, and returns how many it dropped. */
  #forget(count) {
    const { length } = this.#held.splice(0, Math.max(0, count));
    this.#oldest += length;
    this.#nextToSend = Math.max(this.#nextToSend, this.#oldest);
    return length;
  }

  /** Numbers the trades that are held from 1 in a new session. */
  #beginSession() {
    this.#session = `node-${randomBytes(8).toString("hex")}`;
    this.#oldest = this.#nextToSend = this.#cursor = 1;
  }
}
