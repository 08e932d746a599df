import { Header } from "./header/Header";
import { MapPane } from "./map/MapPane";
import { Panel } from "./panel/Panel";
import { Splitter } from "./Splitter";
import { Banner } from "./Banner";
import { Strip } from "./series/Strip";
import { TablePane } from "./table/TablePane";

export function App() {
  return (
    <>
      <Header />
      <main>
        <Banner />
        <div class="upper">
          <MapPane />
          <Panel />
        </div>
        <Strip />
        <Splitter />
        <TablePane />
      </main>
    </>
  );
}
