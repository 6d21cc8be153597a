// Each press has a name of its own and is sent until the server says that it has it: Streamlit may run a script twice
// for one press of its own buttons, and once for two.
const KEYS = { b: 'buy', s: 'sell' }
const MAX_AGE = 2000
const RETRY = 500
const NOT_TEXT = ['range', 'checkbox', 'radio', 'button', 'submit', 'reset']

const takesText = node => node instanceof Element
  && (node.matches('textarea, select, [contenteditable=true]') || (node.matches('input') && !NOT_TEXT.includes(node.type)))

const begin = root => {
  const state = { presses: [], setTriggerValue: null }
  state.send = () => {
    state.presses = state.presses.filter(press => Date.now() - press.at < MAX_AGE)
    if (state.presses.length) {
      state.setTriggerValue('pressed', state.presses.map(({ id, side }) => ({ id, side })))
      setTimeout(state.send, RETRY)
    }
  }
  const press = side => {
    state.presses.push({ id: crypto.getRandomValues(new Uint32Array(4)).join('-'), side, at: Date.now() })
    state.send()
  }
  state.key = event => {
    const side = KEYS[event.key.toLowerCase()]
    if (!side || event.ctrlKey || event.metaKey || event.altKey || event.composedPath().some(takesText)) return
    event.preventDefault()
    event.stopPropagation()
    press(side)
  }
  for (const button of root.querySelectorAll('button')) button.onclick = () => press(button.value)
  document.addEventListener('keydown', state.key, true)
  return state
}

// Called whenever the data changes.
export default function ({ data, parentElement, setTriggerValue }) {
  const state = parentElement.state ??= begin(parentElement)
  state.setTriggerValue = setTriggerValue
  state.presses = state.presses.filter(press => !data.seen.includes(press.id))
  // A field in which a symbol was just chosen keeps the focus, and B and S would be typed into it.
  if (state.symbol !== undefined && state.symbol !== data.symbol && document.activeElement?.matches('[role=combobox]')) {
    document.activeElement.blur()
  }
  state.symbol = data.symbol
  return () => {
    document.removeEventListener('keydown', state.key, true)
    parentElement.state = undefined
  }
}
