/** A port for a server that must be told one. */

import { createServer } from "node:net";

/** One that nobody listens on now. Another program may take it before the server does, which then fails and says so. */
export function freePort(): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const server = createServer();
  server.once("error", reject);
  server.listen(0, "127.0.0.1", () => {
    const address = server.address();
    server.close(() => {
      if (typeof address === "object" && address !== null) resolve(address.port);
      else reject(new Error("the system gave no port"));
    });
  });
  return promise;
}
