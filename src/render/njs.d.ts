/** Scripts for nginx, imported `with { type: "text" }`. */
declare module "*.njs.js" {
  const text: string;
  export default text;
}
