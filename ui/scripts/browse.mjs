// Drives Chromium for tests/ui/browser.py: one JSON script on standard input, one JSON answer on standard output.
//
//   {"url", "steps": [...], "width", "height", "dark", "reducedMotion", "timeout_ms", "chromium"}
//   steps: {"wait": selector} {"gone": selector} {"text": selector} {"click": selector} {"fill": [selector, text]}
//          {"press": key} {"eval": expression} {"until": expression} {"edges": true} {"screenshot": path} {"sleep": ms} {"goto": url}
// Every step that reads something adds its value to "results".
import { chromium } from "playwright-core";

const input = await new Promise((resolve) => {
  let text = "";
  process.stdin.on("data", (chunk) => (text += chunk)).on("end", () => resolve(JSON.parse(text)));
});

const timeoutMs = input.timeout_ms ?? 15_000;

const readEdges = () =>
  [...document.querySelectorAll("[data-edge]")].map((row) => ({
    edge: row.dataset.edge,
    proto: row.dataset.proto,
    bad: Number(row.dataset.bad),
    text: row.innerText,
  }));

async function until(page, expression) {
  const end = Date.now() + timeoutMs;
  while (!(await page.evaluate(expression))) {
    if (Date.now() > end) throw new Error(`it did not come true: ${expression}`);
    await page.waitForTimeout(50);
  }
}

async function perform(page, step) {
  if (step.goto) return void (await page.goto(step.goto));
  if (step.wait) return void (await page.locator(step.wait).first().waitFor({ state: "attached" }));
  if (step.gone) return void (await page.locator(step.gone).first().waitFor({ state: "detached" }));
  if (step.text) return page.locator(step.text).first().innerText();
  if (step.click) return void (await page.locator(step.click).first().click());
  if (step.fill) return void (await page.locator(step.fill[0]).fill(step.fill[1]));
  if (step.press) return void (await page.keyboard.press(step.press));
  if (step.mouse) return void (await page.mouse[step.mouse[0]](...step.mouse.slice(1)));
  if (step.eval) return page.evaluate(step.eval);
  if (step.until) return void (await until(page, step.until));
  if (step.edges) return page.evaluate(readEdges);
  if (step.screenshot) return void (await page.screenshot({ path: step.screenshot }));
  if (step.sleep) return void (await page.waitForTimeout(step.sleep));
  throw new Error(`unknown step ${JSON.stringify(step)}`);
}

const browser = await chromium.launch({
  executablePath: input.chromium ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const answer = { results: [], console: [] };
try {
  const page = await browser.newPage({
    viewport: { width: input.width ?? 1400, height: input.height ?? 900 },
    colorScheme: input.dark ? "dark" : "light",
    reducedMotion: input.reducedMotion ? "reduce" : "no-preference",
    deviceScaleFactor: input.scale ?? 1,
  });
  page.setDefaultTimeout(timeoutMs);
  page.on("pageerror", (error) => answer.console.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") answer.console.push(`${message.type()}: ${message.text()}`);
  });
  await page.goto(input.url);
  for (const step of input.steps ?? []) {
    const value = await perform(page, step);
    if (value !== undefined) answer.results.push(value);
  }
} catch (error) {
  answer.error = error.message;
} finally {
  await browser.close();
}
console.log(JSON.stringify(answer));
