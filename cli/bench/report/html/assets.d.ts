/** What is imported as text, to lie inside the executable and inside each page. */

declare module "*.css" {
  const text: string;
  export default text;
}

declare module "*.min.js" {
  const text: string;
  export default text;
}

declare module "*/page.js" {
  const text: string;
  export default text;
}
