// Holds resources of the Prometheus operator, a JSON list on standard input, against its schemas.
import { readFileSync } from "node:fs";
import * as models from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

for (const resource of JSON.parse(readFileSync(0))) {
  try {
    new models[resource.kind](resource).validate();
  } catch (error) {
    console.error(`${resource.kind}: ${error.message}`);
    process.exitCode = 1;
  }
}
