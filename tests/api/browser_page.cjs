// Drives an unmodified browser library in a real Chromium: LIBRARY ADDRESS WRITE_KEY CHROMIUM. Modules are found through
// NODE_PATH. The page comes from another origin than the collector, as any shop's does.
const fs = require("fs");
const http = require("http");
const path = require("path");
const { chromium } = require("playwright-core");

const [library, address, writeKey, executablePath] = process.argv.slice(2);
const host = new URL(address).host;
const folders = { segment: "@segment/analytics-next", hightouch: "@ht-sdks/events-sdk-js-browser" };
const package_ = require.resolve.paths("x").map((each) => path.join(each, folders[library])).find((each) => fs.existsSync(each));
const files = path.join(package_, "dist", "umd");

function serve() {
  const server = http.createServer((request, response) => {
    const name = path.basename(new URL(request.url, "http://page").pathname);
    const file = path.join(files, name);
    if (name && fs.existsSync(file)) {
      response.writeHead(200, { "Content-Type": "text/javascript" });
      response.end(fs.readFileSync(file));
    } else {
      response.writeHead(200, { "Content-Type": "text/html" });
      response.end('<!doctype html><title>Pricing</title><script src="/index.js"></script>');
    }
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

// Runs in the page.
async function drive({ library, address, host, writeKey }) {
  const load = {
    segment: () =>
      window.AnalyticsNext.AnalyticsBrowser.load(
        { writeKey, cdnURL: address },
        { integrations: { "Segment.io": { apiHost: `${host}/v1`, protocol: "http" } } },
      ),
    hightouch: () => window.HtEvents.HtEventsBrowser.load({ writeKey }, { apiHost: host, protocol: "http" }),
  };
  const analytics = load[library]();
  await analytics.ready;
  await analytics.identify("user-1", { plan: "free" });
  await analytics.page("Pricing");
  await analytics.group("team-1", { name: "Team" });
  for (let number = 0; number < 20; number += 1) await analytics.track("Seen", { number });
  await analytics.alias("user-2", "user-1");
}

async function main() {
  const server = await serve();
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const page = await browser.newPage();
  const sent = new Set();
  const failed = [];
  page.on("pageerror", (error) => failed.push(String(error)));
  page.on("request", (request) => { if (request.url().startsWith(address)) sent.add(request); });
  page.on("requestfinished", async (request) => sent.delete(request));
  page.on("requestfailed", (request) => { if (sent.delete(request)) failed.push(`${request.url()} ${request.failure().errorText}`); });
  page.on("response", (response) => {
    if (response.url().startsWith(address) && response.status() !== 200) failed.push(`${response.url()} ${response.status()}`);
  });
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate(drive, { library, address, host, writeKey });
  for (let turn = 0; sent.size && turn < 300; turn += 1) await page.waitForTimeout(100);
  await browser.close();
  server.close();
  if (failed.length || sent.size) throw new Error(`${failed.join("\n")}\n${sent.size} requests without an answer`);
}

main().then(() => process.exit(), (error) => { console.error(error); process.exit(1); });
