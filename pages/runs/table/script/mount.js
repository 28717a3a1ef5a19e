// Mounts the table once, and hands it what each rerun of the page wants shown.

const MOUNTED = new WeakMap();

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector("#runs-root");
  if (!MOUNTED.has(root)) MOUNTED.set(root, new RunsTable(root));
  MOUNTED.get(root).update(data, setTriggerValue);
  return () => {
    MOUNTED.get(root)?.remove();
    MOUNTED.delete(root);
  };
}
