// The token comes in the fragment and leaves the address bar at once; a reload finds it in this tab's storage.
export function takeToken() {
  const found = location.hash.slice(1);
  if (found) {
    sessionStorage.setItem("token", found);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}
