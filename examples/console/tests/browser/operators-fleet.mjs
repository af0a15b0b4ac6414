import { assert, base, desk, everywhere, operate, same, test, use } from "./people.mjs";

// Has the server lose its log, find it again, or another server leave.
const fleet = async (how) => same((await fetch(`${base}/test/fleet/${how}`)).status, 200, `the fleet, ${how}`);

const servers = (page) => page.getByRole("table", { name: "Servers" }).locator("tbody tr");
// A figure of this server: the text beside its name.
const figure = async (page, name) => {
  const row = page.locator("dl.gk-facts div", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) });
  return (await row.locator("dd").textContent()).trim();
};

const issue = async (page, owner) => {
  await page.goto(`${desk}/keys/new?keyspace=ai_live`);
  await page.getByLabel("Owner").fill(owner);
  await page.getByLabel("read", { exact: true }).check();
  await page.getByRole("button", { name: "Create the key" }).click();
  return page.getByLabel("API key", { exact: true }).inputValue();
};

await test("an operator sees all servers, and that each has what was changed here", {}, async (page) => {
  await operate(page);
  await page.getByRole("link", { name: "Fleet", exact: true }).click();
  await page.getByRole("heading", { name: "Fleet", exact: true }).waitFor();
  same(await servers(page).count(), 3, "servers");
  await page.getByText("eu-1 (this server)").waitFor();
  same(await page.getByText("Beats", { exact: true }).count(), 3, "servers that beat");
  await everywhere(page, "desk-fleet");
  const before = await figure(page, "Position");
  same(await use(await issue(page, "fleety")), 200, "the new key");
  await page.goto(`${desk}/fleet`);
  assert((await figure(page, "Position")) !== before, `the position is ${before} still`);
});

await test("a server without its log says so on its page, and that it is well again", {}, async (page) => {
  await operate(page);
  const token = await issue(page, "fleety");
  await fleet("cut");
  await page.goto(`${desk}/fleet`);
  await page.getByText("The log does not say which servers there are").waitFor();
  same(await page.getByText("This server verifies no token").count(), 2, "as a note and as its state");
  same(await use(token), 503, "a key, at the server that verifies none");
  await everywhere(page, "desk-fleet-cut");
  await fleet("well");
  await page.reload();
  await page.getByText("Fresh", { exact: true }).waitFor();
  same(await servers(page).count(), 3, "servers");
  same(await use(token), 200, "the key");
});

await test("a server that leaves is not shown any more", {}, async (page) => {
  await operate(page);
  await fleet("leave");
  await page.goto(`${desk}/fleet`);
  same(await servers(page).count(), 2, "servers");
  same(await page.getByText("us-1").count(), 0, "the one that left");
});
