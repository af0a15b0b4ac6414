import { admin_keys, assert, base, desk, disk, insecure, operate, person, same, test, use } from "./people.mjs";

const issue = async (page, owner, name) => {
  await page.goto(`${desk}/keys/new?keyspace=ai_live`);
  await page.getByLabel("Owner").fill(owner);
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("read", { exact: true }).check();
  await page.getByRole("button", { name: "Create the key" }).click();
  const token = await page.getByLabel("API key", { exact: true }).inputValue();
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByRole("heading", { name }).waitFor();
  return token;
};

await test("a leaked key is found by its token and revoked, with a reason in its history", {}, async (page) => {
  await operate(page);
  const token = await issue(page, "leaky", "leaked");
  await page.goto(`${desk}/keys`);
  // As it stood in a log, and cut off: the key is named by its id.
  await page.getByLabel("Find").fill(`"Authorization: Bearer ${token.slice(0, -5)}"`);
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("it proves nothing").waitFor();
  assert(!(await page.content()).includes(token.slice(-20, -5)), "a part of the token is on the page");
  await page.getByLabel("Find").fill(`"Authorization: Bearer ${token}"`);
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("This is the key of the token").waitFor();
  await page.getByRole("link", { name: "Revoke" }).click();
  // What can be undone is offered first.
  await page.getByRole("button", { name: "Disable" }).waitFor();
  await page.getByLabel("Somebody else may have it").check();
  await page.getByLabel("Note").fill("seen in a public repository");
  await page.getByRole("button", { name: "Revoke the key" }).click();
  await page.getByText("The key is revoked.").waitFor();
  same(await use(token), 401, "the leaked key");
  assert((await page.getByRole("table").textContent()).includes("seen in a public repository"), "history");
});

await test("an operator rotates a key with a grace; reload makes no second one", {}, async (page) => {
  await operate(page);
  const old = await issue(page, "rotating", "rotated");
  await page.getByRole("link", { name: "Rotate" }).click();
  await page.getByLabel("works for 1 day more").check();
  await page.getByRole("button", { name: "Create the new key" }).click();
  const token = await page.getByLabel("API key", { exact: true }).inputValue();
  same(await use(old), 200, "the old key");
  same(await use(token), 200, "the new key");
  await page.reload();
  await page.getByRole("heading", { name: "This form was sent already" }).waitFor();
  await page.goto(`${desk}/keys?owner=rotating`);
  same(await page.locator("tbody tr").count(), 2, "keys");
});

await test("several keys are revoked by typing it, with a result for each", {}, async (page) => {
  await operate(page);
  for (const name of ["first", "second", "third"]) await issue(page, "bulky", name);
  await page.goto(`${desk}/keys?owner=bulky`);
  await page.getByLabel("Pick all on this page").check();
  await page.getByLabel("With the picked keys").selectOption({ label: "Revoke" });
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByText("Keys that this reaches: 3").waitFor();
  const button = page.getByRole("button", { name: "Revoke", exact: true });
  same(await button.getAttribute("aria-disabled"), "true", "the button before typing");
  await page.getByLabel('Type "revoke 3" to confirm').fill("revoke 3");
  await button.click();
  same(await page.getByText("The key is revoked.").count(), 3, "results");
});

await test("two operators at once: the second is told, and both are in the history", {}, async (page) => {
  await operate(page, 0);
  await issue(page, "contested", "of both");
  const address = page.url();
  const other = await person();
  await operate(other.page, 1);
  await other.page.goto(`${address}/edit`);
  await page.goto(`${address}/edit`);
  await page.getByLabel("Name", { exact: true }).fill("by Alice");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  await other.page.getByLabel("Name", { exact: true }).fill("by Bob");
  await other.page.getByRole("button", { name: "Save" }).click();
  await other.page.getByRole("heading", { name: "This has changed meanwhile" }).waitFor();
  await other.page.goto(address);
  await other.page.getByRole("button", { name: "Disable" }).click();
  await other.page.getByText("The key is disabled.").waitFor();
  const history = await other.page.getByRole("table").textContent();
  same(new Set(history.match(/key:\w{10}/g)).size, 2, "operators in the history");
  await other.context.close();
});

await test("a session that ended leads to the log-in and back; logging out ends it", {}, async (page, context) => {
  await operate(page);
  const [cookie] = await context.cookies(desk);
  same([cookie.name, cookie.httpOnly, cookie.secure, cookie.sameSite].join(" "), "__Host-gatekey true true Strict", "the cookie");
  await page.goto(`${desk}/trail`);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  // The cookie of before is good for nothing.
  await context.addCookies([cookie]);
  await page.goto(`${desk}/trail`);
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await page.goBack();
  assert(!(await page.content()).includes("Audit trail</h1>"), "a page from before the end is shown");
});

await test("a session that ends in the middle of a form: nothing is done, and the log-in leads on", {}, async (page, context) => {
  await operate(page);
  const token = await issue(page, "middle", "left alone");
  const key = page.url();
  await page.getByRole("link", { name: "Revoke" }).click();
  const other = await context.newPage();
  await other.goto(desk);
  await other.getByRole("button", { name: "Log out" }).click();
  await other.getByRole("heading", { name: "Log in" }).waitFor();
  await page.getByRole("button", { name: "Revoke the key" }).click();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  same(await use(token), 200, "the key");
  await page.goto(key);
  await page.getByLabel("Admin key").fill(admin_keys[0]);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "left alone" }).waitFor();
});

await test("a store that fails under a revocation: the page says so, and it is done later", {}, async (page) => {
  await operate(page);
  const token = await issue(page, "failing", "hard to end");
  const key = page.url();
  await page.getByRole("link", { name: "Revoke" }).click();
  await disk("broken");
  await page.getByRole("button", { name: "Revoke the key" }).click();
  await page.getByRole("heading", { name: /cannot be reached now|It is not known whether that was done/ }).waitFor();
  await page.goto(`${desk}/store`);
  await page.getByRole("alert").getByText("The store takes no changes").waitFor();
  await disk("well");
  await page.goto(key);
  const revoke = page.getByRole("link", { name: "Revoke", exact: true });
  if (await revoke.count()) {
    await revoke.click();
    await page.getByRole("button", { name: "Revoke the key" }).click();
    await page.getByText("The key is revoked.").waitFor();
  }
  same(await use(token), 401, "the key");
});

await test("what is downloaded: a file of keys, and a backup", {}, async (page) => {
  await operate(page);
  await page.goto(`${desk}/keys`);
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download as CSV" }).click()]);
  same(file.suggestedFilename(), "keys.csv", "the file");
  await page.goto(`${desk}/store`);
  await page.getByRole("button", { name: "Check the store" }).click();
  await page.getByText("The store is sound").waitFor();
  const [backup] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download a backup" }).click()]);
  same(backup.suggestedFilename(), "keys.redb", "the backup");
});

await test("on plain HTTP of another name the log-in says why it cannot be", {}, async (page) => {
  await page.goto(`${insecure}/console`);
  await page.getByLabel("Admin key").fill(admin_keys[0]);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").getByText("browsers keep no session").waitFor();
});

await test("a customer's log-in opens no page of operators", {}, async (page) => {
  await page.goto(`${base}/enter/${(process.env.LINKS ?? "").split(" ")[0].split("/").pop()}`);
  await page.goto(`${base}/console/keys`);
  await page.getByRole("heading", { name: "Log in" }).waitFor();
});
