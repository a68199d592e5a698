/** Where the benchmarks of object storage store: a real S3 server, or a directory when there is none. */
import { pathToFileURL } from "node:url";
import { loadS3 } from "../../src/remote/s3-client.ts";
import type { RemoteOptions } from "../../src/store/remote-options.ts";
import { startRadosgw } from "../../src/testing/radosgw.ts";
import type { Workspace } from "./sides.ts";

export interface ObjectPlaces {
  readonly name: string;
  /** An empty place. */
  newPlace(): RemoteOptions;
  stop(): Promise<void>;
}

const BUCKET = "bough-bench";

export async function openPlaces(workspace: Workspace): Promise<ObjectPlaces> {
  try {
    return await openS3();
  } catch (error) {
    process.stderr.write(`${String(error)}\nObject storage is a directory in what follows\n`);
    return {
      name: "a directory",
      newPlace: () => ({ url: pathToFileURL(workspace.path("objects")).href }),
      stop: () => Promise.resolve(),
    };
  }
}

async function openS3(): Promise<ObjectPlaces> {
  const server = await startRadosgw(new AbortController().signal);
  const { endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const { sdk, client } = await loadS3({
    description: `s3://${BUCKET}`,
    endpoint,
    bucket: BUCKET,
    prefix: "",
    region: "us-east-1",
    forcePathStyle: true,
    checksum: "none",
    credentials,
  });
  await client.send(new sdk.CreateBucketCommand({ Bucket: BUCKET }));
  client.destroy();
  let count = 0;
  return {
    name: "radosgw",
    newPlace: () => ({
      url: `s3://${BUCKET}/place-${++count}?endpoint=${endpoint}`,
      region: "us-east-1",
      credentials,
    }),
    stop: () => server.stop(),
  };
}
