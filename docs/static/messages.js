// The box on the page of messages: finds the message whose fixed words are in what was pasted.
document.addEventListener("DOMContentLoaded", () => {
  const box = document.getElementById("message");
  const found = document.getElementById("found");
  if (!box || !found) return;
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ");
  const messages = [...document.querySelectorAll("ul.messages li")].map((item) => {
    const parts = [...item.querySelector("samp").childNodes]
      .filter((node) => node.nodeType === Node.TEXT_NODE)
      .map((node) => plain(node.textContent))
      .filter((text) => text.trim().length > 2);
    const words = new Set(parts.join(" ").match(/[a-z]{3,}/g));
    return { item, parts, words, length: parts.join("").length };
  });
  // a message that was cut off or typed: those that most of its words are in
  const nearest = (given) => {
    const words = [...new Set(given.match(/[a-z]{3,}/g) || [])];
    return messages
      .map((one) => ({ ...one, share: words.filter((word) => one.words.has(word)).length }))
      .filter((one) => one.share > 3 && one.share > 0.6 * words.length)
      .sort((a, b) => b.share - a.share)
      .slice(0, 3);
  };
  box.addEventListener("input", () => {
    const given = plain(box.value);
    const scored = messages
      .map((one) => {
        const there = one.parts.filter((part) => given.includes(part.trim()));
        const said = there.join("").length;
        // all of a message's words are in what was given, or what was given is a piece of it
        const within = given.trim().length > 7 && plain(one.item.textContent).includes(given.trim());
        return { ...one, said: within ? given.length : said, share: within ? 1 : said / one.length };
      })
      .filter((one) => one.share > 0.6 && one.said > 7)
      .sort((a, b) => b.share * b.said - a.share * a.said)
      .slice(0, 3);
    if (!scored.length) scored.push(...nearest(given));
    found.replaceChildren();
    if (given.trim().length > 7 && !scored.length) {
      found.textContent = "None has these words; the sections below say what each kind is about.";
    }
    for (const one of scored) {
      const link = document.createElement("a");
      link.href = "#" + one.item.id;
      link.textContent = one.item.textContent;
      const section = one.item.closest("section").querySelector("h2").firstChild.textContent;
      const line = document.createElement("span");
      line.append(section + ": ", link);
      found.append(line);
    }
  });
});
