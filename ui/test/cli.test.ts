import { expect, test } from "vitest";
import { command, quote } from "../src/text/cli";
import { edge, serviceMap } from "./records";

const nodes = new Map(
  serviceMap([edge("shop/web-0", "shop/api-1"), edge("203.0.113.9", "shop/web-0")]).nodes.map((n) => [n.id, n]),
);

test("words are quoted for a shell when they must be", () => {
  expect(quote("shop/web-0")).toBe("shop/web-0");
  expect(quote("$(reboot)")).toBe("'$(reboot)'");
  expect(quote("it's")).toBe(`'it'\\''s'`);
});

test("the page in a terminal", () => {
  expect(command(undefined, "5m", "", nodes)).toBe("flows --since 5m");
  expect(command(undefined, "1h", "shop", nodes)).toBe("flows --since 1h --namespace shop");
});

test("a selection in a terminal", () => {
  expect(command({ type: "node", id: "shop/web-0" }, "5m", "shop", nodes)).toBe("flows --since 5m --pod shop/web-0");
  const call = { type: "edge", source: "203.0.113.9", destination: "shop/web-0", port: 443, proto: "tcp" } as const;
  expect(command(call, "5m", "", nodes)).toBe("flows --since 5m --pod shop/web-0 --port 443 --proto tcp");
});

test("a question in a terminal", () => {
  const asked = (question: string) => command(undefined, "5m", "", nodes, undefined, question);
  expect(asked("kind:drop or list")).toBe("flows tail --since 5m 'kind:drop or list'");
  expect(asked("-x")).toBe("flows tail --since 5m -- -x");
});

test("a relay elsewhere is named", () => {
  expect(command(undefined, "5m", "", nodes, "https://obs.example/x/")).toBe("flows --since 5m --server https://obs.example/x");
  expect(command(undefined, "5m", "", nodes, "http://localhost:8080/")).toBe("flows --since 5m");
});
