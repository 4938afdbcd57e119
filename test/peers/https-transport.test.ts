import test from 'ava'
import { conformance } from './conformance.js'

conformance(test, 'HTTPS')
