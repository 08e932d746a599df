import { render } from "preact";
import { App } from "./App";
import { listenToKeys } from "./keys";
import { followUrl } from "./state/actions";
import { startLive } from "./state/live";
import { startPolls } from "./state/polls";
import { startQuestion } from "./state/question";
import { startSeries } from "./state/series";
import "./style/index.css";

render(<App />, document.getElementById("app")!);
followUrl();
listenToKeys();
startQuestion();
startPolls();
startSeries();
startLive();
