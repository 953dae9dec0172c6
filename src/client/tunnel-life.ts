/** Milliseconds between the two looks that are compared: at least, and at most. */
const apart = [750, 5000] as const;

/** Whether a tunnel brings anything, by its own counter. */
export interface TunnelLife {
  /** Looks, and tells whether something arrived since an earlier look of the last seconds. */
  sample(): Promise<boolean>;
}

/**
 * `receivedBytes` reads the counter, which begins anew with the tunnel. What arrived before the server fell silent
 * says nothing of its tunnel: whoever wants to know has to begin to look after that.
 */
export function watchLife(
  receivedBytes: () => Promise<number>,
  now: () => number = () => performance.now(),
): TunnelLife {
  const looks: { readonly at: number; readonly bytes: number }[] = [];
  return {
    async sample() {
      const bytes = await receivedBytes();
      const at = now();
      const before = looks.findLast((look) => at - look.at >= apart[0] && at - look.at < apart[1]);
      looks.push({ at, bytes });
      if (looks.length > 10) looks.shift();
      return before !== undefined && bytes > before.bytes;
    },
  };
}
