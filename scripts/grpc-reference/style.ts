/** The page's style: light and dark, and one column on small screens. */
export const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#d9dde3, #333a44); --quiet: light-dark(#59626f, #9aa5b4); --link: light-dark(#0b57b7, #7fb2ff); }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; display: grid; grid-template-columns: 17rem minmax(0, 1fr); background: light-dark(#fff, #14181d); color: light-dark(#1b2129, #e4e8ee); }
nav { overflow-wrap: anywhere; position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1rem; box-sizing: border-box; border-right: 1px solid var(--line); font-size: .875rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav h2 { font-size: 1rem; margin: 1rem 0 .25rem; }
main { padding: 1rem 2rem 4rem; max-width: 60rem; }
a { color: var(--link); }
article { border-top: 1px solid var(--line); padding: .5rem 0 1rem; }
h3 { margin: .5rem 0; }
p { margin: .25rem 0 .5rem; }
pre, code { font: .875rem/1.5 ui-monospace, monospace; }
pre { white-space: pre-wrap; margin: .5rem 0; }
.facts { color: var(--quiet); font-size: .875rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
td p { margin: 0 0 .25rem; }
@media (max-width: 50rem) { body { display: block; } nav { position: static; height: auto; max-height: 40vh; border: 0; border-bottom: 1px solid var(--line); } main { padding: 1rem; } }
`;
