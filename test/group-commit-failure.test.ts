/** A flush that fails takes all commits with it that were waiting: none is acknowledged, and the store says what became of them. */
import { expect, test } from "vitest";
import { openStore } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";

const DATABASES = ["shop", "stock"];
const BRANCHES = ["main", "dev"];

const REVISIONS = DATABASES.flatMap((name) => BRANCHES.map((branch) => `${name}/${branch}`));

function idOf(index: number): string {
  return index.toString(16).padStart(32, "0");
}

test.each(["write", "sync"] as const)(
  "a failed %s of the log: every commit that waits is rejected, on all branches and databases",
  async (kind) => {
    const storage = new SimulatedStorage();
    const store = openStore("store", { backend: "memory", storage });
    for (const name of DATABASES) {
      const database = store.createDatabase(name);
      store.connect(name).exec("CREATE TABLE item(id INTEGER PRIMARY KEY)").close();
      database.createBranch("dev");
    }
    const connections = await Promise.all(
      REVISIONS.flatMap((revision) => [store.open(revision), store.open(revision)]),
    );
    // A commit that is written without a sync needs one: the next flush then is a write and a sync.
    using unsynced = store.connect("shop", { durability: "normal" });
    unsynced.exec("CREATE TABLE other(x)");
    let settled = 0;
    const inFlight = connections.map(async (connection, index) => {
      await connection.exec(`INSERT INTO item VALUES(${index})`);
      settled++;
    });
    const transactions = Array.from({ length: 8 }, async (_, index) => {
      const revision = REVISIONS[index % REVISIONS.length]!;
      const add = async (): Promise<void> =>
        await store.transact(
          revision,
          async (tx) => {
            await tx.run("INSERT INTO item VALUES(?)", 100 + index);
          },
          { id: idOf(index + 1) },
        );
      await add();
      settled++;
    });
    storage.failAt({
      kinds: [kind],
      path: (path) => path.includes("log/"),
      count: 1,
      systemCode: "EIO",
      dropUnsynced: true,
      forever: true,
    });
    const outcomes = await Promise.allSettled([...inFlight, ...transactions]);
    expect(settled).toBe(0);
    for (const outcome of outcomes) {
      expect(outcome.status).toBe("rejected");
      const { code } = (outcome as PromiseRejectedResult).reason as { code: string };
      expect(["IO", "STORE_FAILED"]).toContain(code);
    }
    const [first] = connections;
    await expect(first!.exec("INSERT INTO item VALUES(999)")).rejects.toMatchObject({
      code: "STORE_FAILED",
    });
    // What is on the disk decides, and `outcome` says the same as the rows.
    const disk = storage.copyAfterCrash(new Random(1));
    const recovered = openStore("store", { backend: "memory", storage: disk });
    for (let index = 0; index < 8; index++) {
      const revision = REVISIONS[index % REVISIONS.length]!;
      using connection = recovered.connect(revision);
      const isThere = connection.prepare("SELECT 1 FROM item WHERE id = ?").get(100 + index);
      const outcome = recovered.outcome(idOf(index + 1));
      expect(outcome.committed).toBe(isThere !== undefined);
    }
    await recovered.closeAsync();
  },
);
