import { base, everywhere, log_in, same, test, use } from "./people.mjs";

const make = async (page) => {
  await page.goto(`${base}/ai/keys/new?keyspace=ai_live`);
  await page.getByLabel("Name", { exact: true }).fill("backend");
  await page.getByLabel("Production").check();
  await page.getByRole("button", { name: "Create the key" }).click();
  return page.getByLabel("API key", { exact: true }).inputValue();
};

await test("every page is for everybody: 320 and 1440 px, light and dark, axe", {}, async (page) => {
  await log_in(page);
  await page.goto(`${base}/ai/keys`);
  await everywhere(page, "keys-empty");
  await page.goto(`${base}/ai/keys/new?keyspace=ai_live`);
  await everywhere(page, "keys-new");
  const token = await make(page);
  await everywhere(page, "keys-token");
  for (let uses = 0; uses < 3; uses += 1) await use(token);
  await page.getByRole("link", { name: "I have stored it" }).click();
  const key = page.url();
  await everywhere(page, "keys-key");
  for (const [end, name] of [["/edit", "keys-edit"], ["/rotate", "keys-rotate"], ["/revoke", "keys-revoke"]]) {
    await page.goto(`${key}${end}`);
    await everywhere(page, name);
  }
  await page.goto(`${key}/rotate`);
  await page.getByRole("button", { name: "Create the new key" }).click();
  await page.getByRole("link", { name: "I have stored it" }).click();
  await everywhere(page, "keys-steps");
  // The old one is deleted too early, almost.
  const steps = page.url();
  await page.getByRole("link", { name: "Delete the old key" }).click();
  await page.getByText("The new key has never been used").waitFor();
  await everywhere(page, "keys-delete-unused");
  // The new key leaks before it is in use.
  await page.getByRole("link", { name: "Go on with the rotation" }).click();
  await page.getByRole("link", { name: "The new key" }).click();
  await everywhere(page, "keys-key-in-rotation");
  await page.getByRole("link", { name: "Revoke" }).click();
  await page.getByRole("button", { name: "Revoke the key" }).click();
  await page.goto(steps);
  await page.getByText("The new key has ended").waitFor();
  await everywhere(page, "keys-steps-lost");
  // Another is rotated, and its old key deleted before the new one was used.
  await make(page);
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByRole("link", { name: "Rotate", exact: true }).click();
  await page.getByRole("button", { name: "Create the new key" }).click();
  await page.getByRole("link", { name: "I have stored it" }).click();
  const early = page.url();
  await page.getByRole("link", { name: "Delete the old key" }).click();
  await page.getByRole("button", { name: "Delete the old key" }).click();
  await page.getByText("The old key is deleted").waitFor();
  await page.goto(early);
  await page.getByText("the new one was never used").waitFor();
  await everywhere(page, "keys-steps-unused");
  await make(page);
  await page.goto(`${base}/ai/keys?show=all`);
  await everywhere(page, "keys-list");
  await page.getByRole("link", { name: "Usage" }).click();
  await page.getByText("The same as a table").click();
  await everywhere(page, "keys-usage");
  // A form that comes back.
  await page.goto(`${base}/ai/keys/new?keyspace=ai_live`);
  await page.getByLabel("Name", { exact: true }).fill("\u202eturned");
  await page.getByRole("button", { name: "Create the key" }).click();
  await page.getByRole("alert").waitFor();
  same(await page.evaluate(() => document.activeElement.getAttribute("role")), "alert", "the focus");
  await everywhere(page, "keys-new-problem");
  await page.goto(`${base}/tiered/keys/new`);
  await page.getByLabel("Name", { exact: true }).fill("bare");
  await page.getByRole("button", { name: "Create the key" }).click();
  await page.getByLabel("The key needs no permission").waitFor();
  await everywhere(page, "keys-new-bare");
  await page.goto(`${base}/ai/keys/nothing`);
  await everywhere(page, "keys-not-found");
});

await test("the pages of the other products", {}, async (page) => {
  await log_in(page, 3);
  for (const path of ["aurorax", "one-codex", "pixxel", "tiered"]) {
    await page.goto(`${base}/${path}/keys`);
    await everywhere(page, `product-${path}`);
    await page.getByRole("link", { name: /Create a key|Request an API key/ }).click();
    await page.getByLabel("Name", { exact: true }).fill("a name of some length, as people give them, for the nightly report");
    if (path === "pixxel") {
      await page.getByLabel("Project").fill("p".repeat(3));
      await page.getByLabel("Service account").fill("robot");
    }
    await everywhere(page, `product-${path}-new`);
    await page.getByLabel("read").check();
    await page.getByRole("button", { name: /(Create|Request) the key/ }).click();
    if (path === "pixxel") continue; // 255 bytes have no room below.
    await page.getByRole("link", { name: "I have stored it" }).click();
    await page.goto(`${base}/${path}/keys`);
    await everywhere(page, `product-${path}-with-a-key`);
  }
});
