const ask = async (question) => {
  const asked = { ...question, run: data.run };
  const answer = await fetch("ask", { method: "POST", body: JSON.stringify(asked) }).then((got) => got.json())
    .catch(() => ({ ...asked, problem: "The inspector has ended; start it again." }));
  opened.receive(answer);
};
const opened = inspect(document.getElementById("inspector"), data, {ask});
