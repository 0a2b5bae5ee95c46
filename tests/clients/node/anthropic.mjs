// The Anthropic SDK for TypeScript, in the major that the first argument names.

import { ASK, URL, WEATHER, check, isCount, isIdle, raises, run } from "./cells.mjs";

const Anthropic = (await import(process.argv[2])).default;
const client = new Anthropic({ baseURL: URL, apiKey: "sk-none", maxRetries: 0, timeout: 30000 });
const messages = [{ role: "user", content: ASK }];
const tools = [{ name: "weather", description: "The weather.", input_schema: WEATHER }];
const create = (model, more = {}) => client.messages.create({ model, max_tokens: 24, messages, ...more });

await run({
  async chat() {
    const answer = await create("good");
    check(answer.content[0].text && isCount(answer.usage.output_tokens) && answer.usage.input_tokens > 0, answer);
  },
  async stream() {
    const stream = client.messages.stream({ model: "good", max_tokens: 24, messages });
    let pieces = 0;
    stream.on("text", () => (pieces += 1));
    const final = await stream.finalMessage();
    check(pieces > 5 && final.content[0].text && isCount(final.usage.output_tokens), final);
  },
  async tools() {
    const tool_choice = { type: "tool", name: "weather" };
    const answer = await create("good", { tools, tool_choice, max_tokens: 200 });
    const use = answer.content.find((block) => block.type === "tool_use");
    check(use.name === "weather" && "city" in use.input && answer.stop_reason === "tool_use", answer);
    const said = [
      ...messages,
      { role: "assistant", content: [use] },
      { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "Rain." }] },
    ];
    check((await create("good", { messages: said, tools })).content[0].text, "no text");
  },
  async errors() {
    const error = await raises(() => create("nobody"), "nobody");
    check(error instanceof Anthropic.NotFoundError && error.error.error.type === "not_found_error", error);
    check((await raises(() => create("busy"))) instanceof Anthropic.RateLimitError, "not a limit of rates");
  },
  async cancel() {
    const stream = await create("slow", { stream: true, max_tokens: 2000 });
    for await (const _ of stream) break;
    await isIdle();
  },
  async "break-off"() {
    const stream = client.messages.stream({ model: "breaks", max_tokens: 200, messages });
    await raises(() => stream.finalMessage());
  },
});
