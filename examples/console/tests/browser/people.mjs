// What the tests in a browser share.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import path from "node:path";

const env = process.env;
const require = createRequire(import.meta.url);
const { chromium } = require(path.dirname(env.PLAYWRIGHT));
const axe = readFileSync(path.join(path.dirname(env.AXE), "axe.min.js"), "utf8");
export const base = `http://127.0.0.1:${env.PORT}`;
// Plain HTTP of another name than the loopback's: an insecure origin.
export const insecure = `http://console.test:${env.PORT}`;
// A cookie that is for secure origins alone is kept on the loopback, too.
export const desk = `http://localhost:${env.PORT}/console`;
export const admin_keys = (env.ADMIN_KEYS ?? "").split(" ");
export const links = (env.LINKS ?? "").split(" ");
const shots = env.GATEKEY_SHOTS;
if (shots) mkdirSync(shots, { recursive: true });

const launched = performance.now();
export const browser = await chromium.launch({
  executablePath: env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP console.test 127.0.0.1"],
});

let failed = 0;
// What time was spent on, and how often.
const spent = new Map([["start", [performance.now() - launched, 1]]]);
export const timed = async (what, work) => {
  const begun = performance.now();
  try {
    return await work();
  } finally {
    const [all, times] = spent.get(what) ?? [0, 0];
    spent.set(what, [all + performance.now() - begun, times + 1]);
  }
};
export const assert = (holds, what) => {
  if (!holds) throw new Error(what);
};
export const same = (found, wanted, what) =>
  assert(found === wanted, `${what}: ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);

// A person with a browser of their own. Whatever the page complains of is a failure.
export const person = async (options = {}) => {
  const context = await browser.newContext(options);
  // Long enough for a machine that does much else.
  context.setDefaultTimeout(60000);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    // What a browser says of a page with an error as its status is no complaint.
    const text = message.text();
    // Nor what it says of plain HTTP, where it passes over one header.
    const known = /the server responded with a status of (4\d\d|503)|Cross-Origin-Opener-Policy header has been ignored|ERR_CACHE_MISS/;
    if (message.type() === "error" && !known.test(text)) complaints.push(text);
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { context, page, complaints };
};

export const test = async (name, options, work) => {
  const begun = Date.now();
  const someone = await timed("browsers of their own", () => person(options));
  try {
    await work(someone.page, someone.context);
    same(someone.complaints.join("; "), "", "the browser complains");
    console.log(`ok: ${name} (${Date.now() - begun} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}\n  ${error.stack}\n  at ${someone.page.url()}`);
    if (shots) await someone.page.screenshot({ path: path.join(shots, `failed-${failed}.png`) }).catch(() => {});
  }
  await someone.context.close();
};

export const log_in = async (page, who = 0, origin = base) => {
  await page.goto(`${origin}${links[who]}`);
};

export const operate = async (page, who = 0) => {
  await timed("log-ins", async () => {
    await page.goto(`${desk}/login`);
    await page.getByLabel("Admin key").fill(admin_keys[who]);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Overview" }).waitFor();
  });
};

// Goes to a page, also where the browser is on its way to another: back to a form that it
// does not send again, say.
export const go = async (page, to) => {
  for (let tries = 1; ; tries += 1) {
    try {
      return await page.goto(to);
    } catch (error) {
      if (tries === 20) throw error;
      await page.waitForTimeout(250);
    }
  }
};

// What axe-core finds, in words: by all of its rules, or by some.
const all_rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
// The rules whose findings depend on colours, and on where things stand.
const look_rules = ["color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable"];
export const findings = async (page, run_only = all_rules) => {
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(axe);
  const result = await page.evaluate((run_only) => globalThis.axe.run(document, { runOnly: run_only, resultTypes: ["violations"], preload: false, iframes: false }), run_only);
  return result.violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.target.join(" ")).join(", ")}`);
};

// Nothing is wider than the window, and what is pressed is large enough.
export const fits = async (page) =>
  page.evaluate(() => {
    const wide = [];
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > width) {
      for (const element of document.querySelectorAll("body *")) {
        const box = element.getBoundingClientRect();
        if (box.right > width + 1 && box.width > 0) wide.push(`${element.tagName}.${element.className} is ${Math.round(box.right)} wide`);
      }
    }
    for (const element of document.querySelectorAll("button, select, input:not([type=hidden]), .gk-button")) {
      const box = element.getBoundingClientRect();
      if (box.width && (box.height < 20 || box.width < 20)) wide.push(`${element.tagName}.${element.className} is too small`);
    }
    return wide.slice(0, 5);
  });

export const picture = async (page, name) => {
  if (shots) await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
};

// A page in the forms that people have it in: small and large, light and dark. Where things
// stand does not depend on colours, nor colours on the width; so each width and each scheme
// is looked at once, and pages whose colours another name has shown for their size alone.
// Between them, at the widths where tables change, it is looked whether all fits.
// Pictures are of all.
export const everywhere = async (page, name, colours = true) => {
  for (const [width, scheme, rules] of [
    [320, "light", all_rules],
    [320, "dark", null],
    // Just wide enough for tables, and just wide enough for their times.
    [740, "light", []],
    [1030, "light", []],
    [1440, "light", null],
    [1440, "dark", colours ? look_rules : []],
  ]) {
    if (!rules && !shots) continue;
    await timed("sizes", async () => {
      await page.setViewportSize({ width, height: 800 });
      await page.emulateMedia({ colorScheme: scheme });
    });
    if (rules) {
      same((await timed("widths", () => fits(page))).join("; "), "", `${name} at ${width} px`);
      const found = rules.length ? await timed("axe", () => findings(page, rules)) : [];
      same(found.join("; "), "", `axe on ${name}, ${width} px, ${scheme}`);
    }
    await picture(page, `${name}-${width}-${scheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 800 });
};

// Uses a key, as a program of the customer's.
export const use = async (token) => (await fetch(`${base}/api/hello`, { headers: { authorization: `Bearer ${token}` } })).status;

// Lets the disk under the store fail, or be well again.
export const disk = async (how) => same((await fetch(`${base}/test/disk/${how}`)).status, 200, `the disk, ${how}`);

export const end = async () => {
  await browser.close();
  const by_time = [...spent].sort(([, [a]], [, [b]]) => b - a);
  console.log(`spent: ${by_time.map(([what, [all, times]]) => `${what} ${(all / 1000).toFixed(1)} s in ${times}`).join(", ")}`);
  if (failed) process.exit(1);
};
