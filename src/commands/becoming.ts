/**
 * Root without CAP_DAC_OVERRIDE, as in the image, has no right to another user's files and sockets: it acts as their
 * owner until disposed. Whatever else runs meanwhile does so too.
 */
export function becoming(owner: { readonly uid: number; readonly gid: number }): Disposable {
  process.setegid?.(owner.gid);
  process.seteuid?.(owner.uid);
  return {
    [Symbol.dispose]() {
      process.seteuid?.(0);
      process.setegid?.(0);
    },
  };
}
