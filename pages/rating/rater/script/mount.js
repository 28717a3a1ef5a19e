// How Streamlit starts a desk, and ends it.

const desks = new WeakMap(); // by the element that Streamlit gives; this runs again at each rerun of the page

export default function mount({ data, parentElement }) {
  const root = parentElement.querySelector(".desk");
  let desk = desks.get(parentElement);
  if (desk?.root !== root || desk.roundId !== data.round) {
    desk?.leave();
    desk = new Desk(root, data.round);
    desks.set(parentElement, desk);
    desk.begin();
  }
  return () => {
    desk.leave();
    desks.delete(parentElement);
  };
}
