/** Columns that a text of plain ASCII takes on a screen: in the bundle this stands for the package string-width. */
export default (text) => text.length
