// One page in Firefox: node drive.mjs FIREFOX PACKAGES < plan.json > answers.json
//
// The plan is a list of actions, in order:
//     ["open", address]              ["press", selector, key, ...]       ["shot", path]
//     ["wait", expression]           ["ask", function, argument]         the answer is kept
// Printed are {answers, errors, addresses}: what was answered, what went wrong on the page, and all
// that it asked for.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { text } from 'node:stream/consumers';

const [firefox, packages] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${packages}/`));
const puppeteer = (await import(pathToFileURL(require.resolve('puppeteer-core')))).default;
const timeout = 600_000;  // milliseconds, for a busy machine

const browser = await puppeteer.launch({
  browser: 'firefox', executablePath: firefox, headless: true, timeout, protocolTimeout: timeout,
});
try {
  const page = await browser.newPage();
  const answers = [], errors = [], addresses = [];
  page.setDefaultTimeout(timeout);
  await page.setViewport({ width: 1100, height: 900 });
  page.on('pageerror', error => errors.push(String(error)));
  page.on('console', said => said.type() === 'error' && errors.push(said.text()));
  page.on('request', request => addresses.push(request.url()));
  const verbs = {
    open: address => page.goto(address),
    press: async (selector, ...keys) => {
      await page.focus(selector);
      for (const key of keys) await page.keyboard.press(key);
    },
    shot: path => page.screenshot({ path, fullPage: true }),
    wait: expression => page.waitForFunction(expression),
    ask: async (source, argument) => {
      answers.push(await page.evaluate(`(${source})(${JSON.stringify(argument ?? null)})`));
    },
  };
  for (const [verb, ...given] of JSON.parse(await text(process.stdin))) await verbs[verb](...given);
  process.stdout.write(JSON.stringify({ answers, errors, addresses }));
} finally {
  await browser.close();
}
