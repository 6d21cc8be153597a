// Each press has an id and is sent until the server confirms it: Streamlit may run a script twice for one click on its
// own buttons, and once for two. A press without an answer is not sent for ever: prices move on.
const KEYS = { b: 'buy', s: 'sell' }
const NAMES = { buy: 'Buy', sell: 'Sell' }
const MAX_AGE = 2000
const RETRY = 500
const NOT_TEXT = ['range', 'checkbox', 'radio', 'button', 'submit', 'reset']

const takesText = node => node instanceof Element
  && (node.matches('textarea, select, [contenteditable=true]') || (node.matches('input') && !NOT_TEXT.includes(node.type)))

const begin = root => {
  const state = { presses: [], unanswered: [], setTriggerValue: null }
  const alert = root.querySelector('[role=alert]')
  state.confirm = seen => {
    const isOpen = press => !seen.includes(press.id)
    state.presses = state.presses.filter(isOpen)
    state.unanswered = state.unanswered.filter(isOpen)
    state.warn()
  }
  state.warn = () => {
    const sides = state.unanswered.map(press => NAMES[press.side]).join(', ')
    const text = sides && `No answer to ${sides}. Check My trades before you press again.`
    if (alert.textContent !== text) alert.textContent = text
  }
  state.send = () => {
    const isOld = press => Date.now() - press.at >= MAX_AGE
    state.unanswered.push(...state.presses.filter(isOld))
    state.presses = state.presses.filter(press => !isOld(press))
    state.warn()
    if (state.presses.length) {
      state.setTriggerValue('pressed', state.presses.map(({ id, side }) => ({ id, side })))
      setTimeout(state.send, RETRY)
    }
  }
  const press = side => {
    state.unanswered = []
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
  // Streamlit shows the buttons before it runs this script.
  root.querySelector('.pair').classList.add('ready')
  return state
}

// Called whenever the data changes.
export default function ({ data, parentElement, setTriggerValue }) {
  const state = parentElement.state ??= begin(parentElement)
  state.setTriggerValue = setTriggerValue
  state.confirm(data.seen)
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
