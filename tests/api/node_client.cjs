// Drives an unmodified client library of npm: LIBRARY ADDRESS WRITE_KEY. Modules are found through NODE_PATH.
const [library, address, writeKey] = process.argv.slice(2);

async function main() {
  let client;
  if (library === "segment") {
    const { Analytics } = require("@segment/analytics-node");
    client = new Analytics({ writeKey, host: address });
    client.on("error", (error) => { console.error(error); process.exitCode = 1; });
  } else {
    const module = require("@rudderstack/rudder-sdk-node");
    const Analytics = module.default ?? module;
    client = new Analytics(writeKey, { dataPlaneUrl: address, flushInterval: 200, errorHandler: (error) => { console.error(error); process.exitCode = 1; } });
  }
  client.identify({ userId: "user-1", traits: { plan: "free" } });
  client.page({ userId: "user-1", name: "Pricing", properties: {} });
  client.group({ userId: "user-1", groupId: "team-1", traits: {} });
  client.alias({ userId: "user-1", previousId: "anon-1" });
  for (let number = 0; number < 100; number += 1) {
    client.track({ userId: "user-2", event: "Seen", properties: { number } });
  }
  if (library === "segment") {
    await client.closeAndFlush({ timeout: 20000 });
  } else {
    // One flush sends one batch of twenty; its timer sends the rest.
    for (let turn = 0; turn < 8; turn += 1) await client.flush();
  }
}

main().then(() => process.exit(), (error) => { console.error(error); process.exit(1); });
