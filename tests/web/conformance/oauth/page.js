// A person in Chromium who uses the keyboard alone.
// node page.js FOLDER CHROMIUM AUTHORIZE KEY PORT, where the folder holds playwright-core and
// axe-core, the URL asks for consent and leads back to this port. Prints what was found wrong.
const [folder, executablePath, url, key, port] = process.argv.slice(2);
const find = (module) => require.resolve(module, { paths: [folder] });
const { chromium } = require(find('playwright-core'));
const axe = require('node:fs').readFileSync(find('axe-core'), 'utf8');
const assert = require('node:assert');

async function check(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  for (const { id, help, nodes } of violations) {
    console.log(`${where}: ${id}: ${help}: ${nodes.map((node) => node.html).join(' ')}`);
  }
}

/** What has the focus, by what it is called. */
const focused = (page) => page.evaluate(() => {
  const it = document.activeElement;
  const style = getComputedStyle(it);
  const seen = it.matches(':focus-visible') && style.outlineStyle !== 'none';
  return `${(it.labels?.[0] ?? it).textContent.trim()}${seen ? '' : ' (unseen)'}`;
});

async function logIn(page) {
  await page.goto(url);
  await page.keyboard.press('Tab');
  await page.keyboard.type(key);
  await page.keyboard.press('Enter');
  await page.waitForSelector('fieldset');
}

async function main() {
  // The client, which waits for an answer; and a page of somebody's that frames the page.
  const answers = [];
  const client = require('node:http').createServer((request, response) => {
    if (request.url.startsWith('/callback')) answers.push(new URL(request.url, url));
    response.setHeader('content-type', 'text/html');
    response.end(`<!doctype html><html lang="en"><title>x</title>${
      request.url === '/frame' ? `<iframe src="${url.replaceAll('&', '&amp;')}"></iframe>` : 'Back.'}`);
  });
  await new Promise((resolve) => client.listen(Number(port), '127.0.0.1', resolve));
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({ colorScheme, viewport: { width: 320, height: 640 } });
    const page = await context.newPage();
    page.on('console', (message) => message.type() === 'error' && console.log(`console: ${message.text()}`));
    await page.goto(url);
    await check(page, `login, ${colorScheme}`);
    await logIn(page);
    await check(page, `consent, ${colorScheme}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    if (wide) console.log(`consent, ${colorScheme}: it scrolls sideways at 320 pixels`);
    const order = [];
    for (let i = 0; i < 4; i += 1) {
      await page.keyboard.press('Tab');
      order.push(await focused(page));
    }
    assert.deepEqual(order, ['See your account', 'Create items in your name', 'Deny', 'Allow']);
    await context.close();
  }

  // Without a script; with less than was asked for.
  for (const answer of ['Allow', 'Deny']) {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await logIn(page);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Space');
    await page.keyboard.press('Tab');
    if (answer === 'Allow') await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/callback/);
    const back = answers.pop();
    console.log(answer === 'Allow' ? `code ${back.searchParams.get('code')}` : back.searchParams.get('error'));
    await context.close();
  }

  // Nobody frames it.
  const context = await browser.newContext();
  const page = await context.newPage();
  await logIn(page);
  await page.goto(`http://127.0.0.1:${port}/frame`);
  const [, frame] = page.frames();
  await frame.waitForLoadState().catch(() => {});
  console.log(frame.url().startsWith('chrome-error:') || (await frame.locator('form').count()) === 0 ? 'unframed' : 'framed');
  const error = await page.goto(url.replace('client_id=', 'client_id=no'));
  assert.equal(error.status(), 400);
  await check(page, 'error');
  await browser.close();
  client.close();
}

main().then(() => process.exit(0), (error) => {
  console.log(`failed ${error.stack}`);
  process.exit(1);
});
