import { RetryingObjectStore } from "../remote/retrying-object-store.ts";
import { describeObjectStore } from "./object-store-conformance.ts";
import { SimulatedBucket, SimulatedObjectStore } from "./simulated-object-store.ts";

describeObjectStore("The simulated store", () => {
  const bucket = new SimulatedBucket();
  let seed = 0;
  return {
    open: () => new SimulatedObjectStore({ bucket, seed: seed++ }),
    cleanUp: () => undefined,
  };
});

describeObjectStore(
  "The simulated store, failing half of its calls, behind the retrying one,",
  () => {
    const bucket = new SimulatedBucket();
    let seed = 100;
    const faults = { failBefore: 0.3, loseAnswer: 0.2, cutShort: 0.2, turnsMax: 5 };
    return {
      open: () =>
        new RetryingObjectStore(new SimulatedObjectStore({ bucket, seed: seed++, faults }), {
          attemptsMax: 60,
          pauseMs: 0,
        }),
      cleanUp: () => undefined,
    };
  },
);
