import { afterEach, expect, setSystemTime, test } from "bun:test";
import { Wakeup } from "./wakeup.ts";

afterEach(() => void setSystemTime());

test.each([86_400_000, -86_400_000])("a clock that jumps by %d ms delays no wish", async (jump) => {
  using wakeup = new Wakeup();
  const limit = AbortSignal.timeout(30_000);
  wakeup.wakeIn(3_600_000);
  setSystemTime(Date.now() + jump);
  wakeup.wakeIn(1);
  await wakeup.next(limit);
  expect(limit.aborted).toBe(false);
});
