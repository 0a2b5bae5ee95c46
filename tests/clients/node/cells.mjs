// What every client's script shares: where the gateway is, and how a cell is said.

export const URL = process.env.SIGNALBOX_URL;
const ADMIN = process.env.SIGNALBOX_ADMIN;
export const ASK = "Where does the Danube end?";
// Of two cities: an engine whose model is untrained would go on with a name for long.
export const CITIES = ["Tulcea", "Galati"];
export const WEATHER = { type: "object", properties: { city: { enum: CITIES } }, required: ["city"] };
// How many tokens an answer has; none where only the engine knows.
const TOKENS = Number(process.env.SIGNALBOX_TOKENS ?? 0);

/** Whether this is how many tokens an answer has. */
export const isCount = (tokens) => (TOKENS ? tokens === TOKENS : tokens > 0);

export function check(condition, what) {
  if (!condition) throw new Error(`not so: ${JSON.stringify(what)?.slice(0, 300)}`);
}

/** Waits until the gateway has nothing in flight: an upstream goes on for a hundred seconds unless it is told. */
export async function isIdle() {
  const end = Date.now() + 5000;
  for (;;) {
    const text = await (await fetch(`${ADMIN}/metrics`)).text();
    if (Number(/^signalbox_requests_in_flight (\S+)$/m.exec(text)[1]) === 0) return;
    check(Date.now() < end, "the gateway works on for a client that has left");
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** Calls it, which must fail; gives the error. */
export async function raises(call, says = "") {
  let got;
  try {
    got = await call();
  } catch (error) {
    check(String(error).includes(says), String(error));
    return error;
  }
  throw new Error(`no error: ${JSON.stringify(got)?.slice(0, 300)}`);
}

/** Runs each cell and says what came of it. */
export async function run(cells) {
  let failed = false;
  for (const [name, cell] of Object.entries(cells)) {
    try {
      await cell();
      console.log(`cell ${name} ok`);
    } catch (error) {
      failed = true;
      console.error(error);
      console.log(`cell ${name} failed ${String(error).replaceAll("\n", " ").slice(0, 400)}`);
    }
  }
  process.exit(failed ? 1 : 0);
}
