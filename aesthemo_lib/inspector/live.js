const ask = async (question) => {
  const answer = await fetch("ask", { method: "POST", body: JSON.stringify(question) }).then((got) => got.json())
    .catch(() => ({ ...question, problem: "The inspector has ended; start it again." }));
  opened.receive(answer);
};
const opened = inspectOne(document.getElementById("inspector"), data, {ask});
