import { render } from "preact";
import { App } from "./app.tsx";
import "./style/base.css";
import "./style/parts.css";
import { readTheme, setTheme } from "./ui/theme.ts";

setTheme(readTheme());
render(<App />, document.querySelector("#app") as Element);
