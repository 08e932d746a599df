import { afterEach, expect, test, vi } from "vitest";
import { getTimeSeries } from "../src/api/client";
import { pause } from "../src/state/pace";
import { startSeries } from "../src/state/series";
import { window_ } from "../src/state/store";

const page = vi.hoisted(() => {
  const page = Object.assign(new EventTarget(), { hidden: false });
  vi.stubGlobal("document", page);
  vi.stubGlobal("location", { search: "" });
  return page;
});
vi.mock("../src/api/client", async (original) => ({ ...(await original<object>()), getTimeSeries: vi.fn() }));
afterEach(() => vi.useRealTimers());

test.each<[number, number]>([
  [0, 10_000],
  [1_000, 10_000],
  [2_100, 21_000],
  [12_000, 120_000],
  [15_000, 120_000],
])("after an answer that took %d ms, the page waits for %d", (took, wait) => expect(pause(took)).toBe(wait));

test("what took long is asked again late, however often one looks; another question at once", async () => {
  vi.useFakeTimers();
  const look = (hidden: boolean) => {
    page.hidden = hidden;
    page.dispatchEvent(new Event("visibilitychange"));
  };
  const asked = vi.mocked(getTimeSeries);
  const answer = { at: [], from: "", to: "", step_s: 60, unit: "ms", series: [] };
  asked.mockImplementation(() => new Promise((done) => setTimeout(() => done(answer as never), 3_000)));
  const asks = () => asked.mock.calls.length / 3;

  startSeries();
  await vi.advanceTimersByTimeAsync(3_000 + 29_000);
  look(true);
  look(false);
  expect(asks()).toBe(1);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asks()).toBe(2);

  window_.value = "1h";
  expect(asks()).toBe(3);
  look(false); // while an answer is awaited
  look(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asks()).toBe(3);
  look(false);
  expect(asks()).toBe(4);
});
