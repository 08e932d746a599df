import { expect, test } from "vitest";
import { bytes, count, middle, nanoseconds, plural, rate, short, socket, span } from "../src/text/format";

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [999.6, "1.0 kB"],
  [1234, "1.2 kB"],
  [99_600, "100 kB"],
  [999_700, "1.0 MB"],
  [12_345_678, "12.3 MB"],
  [5e15, "5.0 PB"],
])("%d bytes are %s", (n, text) => expect(bytes(n)).toBe(text));

test("counts keep every digit, short counts do not", () => {
  expect(count(1234567)).toBe("1,234,567");
  expect(short(1234567)).toBe("1.2M");
  expect(short(42)).toBe("42");
});

test("a trickle is not nothing", () => {
  expect(rate(0.2)).toBe("<1 B/s");
  expect(rate(0)).toBe("0 B/s");
  expect(rate(1500)).toBe("1.5 kB/s");
});

test("plurals", () => {
  expect(plural(1, "edge")).toBe("1 edge");
  expect(plural(1204, "edge")).toBe("1,204 edges");
  expect(plural(2, "agent is", "agents are")).toBe("2 agents are");
});

test("spans and durations", () => {
  expect([8, 99, 180, 7200, 4 * 86400].map(span)).toEqual(["8 s", "99 s", "3 min", "2 h", "4 d"]);
  expect([850e3, 12.34e6, 4.2e9].map(nanoseconds)).toEqual(["850 µs", "12.3 ms", "4.20 s"]);
});

test("long names lose their middle", () => {
  expect(middle("api-0", 10)).toBe("api-0");
  const cut = middle("checkout-7d9f8b6c5-x2kqp", 15);
  expect(cut).toHaveLength(15);
  expect(cut.startsWith("checkou")).toBe(true);
  expect(cut.endsWith("-x2kqp")).toBe(true);
});

test("sockets", () => {
  expect(socket("10.0.0.1", 80)).toBe("10.0.0.1:80");
  expect(socket("fe80::1", 80)).toBe("[fe80::1]:80");
  expect(socket("10.0.0.1", 0)).toBe("10.0.0.1");
});
