// Publishes simulated trades: node publish.mjs [--rate PER_SECOND] COUNT

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { TradePublisher } from "./telemetry.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rate: { type: "string", default: "1000" } },
});
const [count, rate] = [Number(positionals[0] ?? 10), Number(values.rate)];
if (!(count >= 0 && rate > 0)) {
  console.error("usage: node publish.mjs [--rate PER_SECOND] COUNT");
  process.exit(2);
}

const publisher = new TradePublisher({ address: process.env.WEBAPP_ZMQ_ADDR, url: process.env.WEBAPP_SIDECAR_URL });
const started = performance.now();
for (let published = 0; published < count; published++) {
  while (published >= ((performance.now() - started) / 1_000) * rate) await sleep(10);
  const side = published % 2 ? "sell" : "buy";
  publisher.publish(side, ((published % 100) + 1) / 4, { symbol: "BTC-USD", price: 64_250.5 });
}
const isCommitted = await publisher.close(30_000);
console.log(`${count} trades published, ${publisher.pending} pending, ${publisher.lost} lost`);
process.exitCode = isCommitted ? 0 : 1;
