// The AI SDK, by the provider that the first argument names.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ASK, CITIES, URL, check, isCount, isIdle, raises, run } from "./cells.mjs";

const settings = { name: "signalbox", baseURL: `${URL}/v1`, apiKey: "sk-none" };
const makers = {
  compatible: () => createOpenAICompatible({ ...settings, includeUsage: true }),
  openai: () => createOpenAI(settings),
  anthropic: () => createAnthropic(settings),
};
const provider = makers[process.argv[2]]();
const call = (name, more = {}) => ({ model: provider(name), prompt: ASK, maxRetries: 0, maxOutputTokens: 24, ...more });

/** Reads a stream to its end; throws what it says went wrong. */
async function read(result) {
  let text = "";
  for await (const part of result.fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") text += part.text;
  }
  return text;
}

await run({
  async chat() {
    const { text, usage } = await generateText(call("good"));
    check(text && isCount(usage.outputTokens), usage);
  },
  async stream() {
    const result = streamText(call("good"));
    check((await read(result)) && isCount((await result.usage).outputTokens), await result.usage);
  },
  async tools() {
    const calls = [];
    const weather = tool({
      description: "The weather.",
      inputSchema: z.object({ city: z.enum(CITIES) }),
      execute: async ({ city }) => {
        calls.push(city);
        return "Rain.";
      },
    });
    const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber ? "auto" : { type: "tool", toolName: "weather" } });
    const more = { tools: { weather }, stopWhen: stepCountIs(2), prepareStep, maxOutputTokens: 200 };
    const { text } = await generateText(call("good", more));
    check(calls.length === 1 && text, { calls, text });
  },
  async errors() {
    const error = await raises(() => generateText(call("nobody")), "nobody");
    check(APICallError.isInstance(error) && error.statusCode === 404, error);
    check((await raises(() => generateText(call("busy")))).statusCode === 429, "not a limit of rates");
  },
  async cancel() {
    const leave = new AbortController();
    const result = streamText(call("slow", { abortSignal: leave.signal, maxOutputTokens: 2000, onError() {} }));
    for await (const part of result.fullStream) {
      if (part.type === "text-delta") break;
    }
    leave.abort();
    await isIdle();
  },
  async "break-off"() {
    await raises(() => read(streamText(call("breaks", { maxOutputTokens: 200, onError() {} }))));
  },
});
